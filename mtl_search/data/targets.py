"""Target columns as read: labels as texts, numbers as numbers, and masks where there is no label.

Stands between the sources and `fitting`, which learns from the training rows what the labels and units are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtl_search.config import TaskConfig
from mtl_search.data.datasets import DataSet, find_column
from mtl_search.data.encoding import is_missing, means, number_in, text_of, texts_of
from mtl_search.data.notation import HOW_TO_READ, is_foreign_number
from mtl_search.data.sources.base import first_odd, shown
from mtl_search.data.sources.csv_columns import GAPS
from mtl_search.data.sources.parquet_rows import Rows
from mtl_search.errors import Problem
from mtl_search.errors import shown as shown_value


@dataclass(frozen=True)
class RawTarget:
    """A target as read, before anything is fitted.

    Attributes:
        values: Labels (n,) as texts, "" where there is none; or numbers (n,), or 0 and 1 (n, L), 0 where there is none.
        mask: Where there is a label; bool, same shape.
        marked: Whether a row holds the value that the study file gives for a missing label.
    """

    values: np.ndarray
    mask: np.ndarray
    marked: bool = False

    def take(self, rows: np.ndarray) -> RawTarget:
        """The target at some rows."""
        return RawTarget(self.values[rows], self.mask[rows])


def read_target(
    name: str, task: TaskConfig, dataset: DataSet, problems: list[Problem], notes: list[str]
) -> dict[str, RawTarget] | None:
    """Reads a task's target from every given split.

    Args:
        name: The task's.
        task: What the study file says of it.
        dataset: The rows.
        problems: Grows by what is wrong.
        notes: Grows by what a user should know.

    Returns:
        Split to target; None if a column cannot be read.
    """
    before = len(problems)
    raw: dict[str, RawTarget] = {}
    for split, columns in dataset.given.items():
        found = _columns(name, task, dataset.name, split, columns, problems)
        if found is None:
            continue
        try:
            raw[split] = _labels(found, task.missing) if is_class(task) else _numbers(found, task)
        except ValueError as error:
            problems.append(Problem(f"tasks.{name}.target", f"{error} (split {split})"))
    if len(problems) > before:
        return None
    notes += _find_doubts(name, task, raw.values())
    if task.kind == "binary" and task.positive is not None:
        return _one_against_rest(raw, task.positive)
    return raw


def _find_doubts(name: str, task: TaskConfig, targets: Collection[RawTarget]) -> Iterator[str]:
    """Notes on what a user may not mean: a mark that no row holds, a label that others write for a gap."""
    mark = text_of(task.missing)
    if mark and mark not in GAPS and not any(target.marked for target in targets):
        yield f"tasks.{name}.missing: no row holds {shown_value(task.missing)}, so it marks no label as missing"
    if is_class(task):
        rows = Counter(label for target in targets for label in target.values[target.mask])
        for word in sorted(GAPS.intersection(rows)):
            yield f"tasks.{name}.target: {word!r} is a label in {rows[word]} rows; `missing: {word}` would make it none"


def is_class(task: TaskConfig) -> bool:
    """Whether the target is a label out of a few."""
    return task.kind in ("classification", "binary")


def _columns(
    name: str, task: TaskConfig, dataset: str, split: str, columns: Rows, problems: list[Problem]
) -> list[np.ndarray] | None:
    found = []
    for target in task.target:
        column = find_column(columns, target)
        axes = 2 if task.kind == "multilabel" and len(task.target) == 1 else 1
        if column is None:
            rule = f"must name a column of data set {dataset!r} (split {split})"
            problems.append(Problem(f"tasks.{name}.target", rule, target, shown(columns)))
        elif column.ndim > axes:
            hint = f"; '{target}:0' is its first column" if column.ndim == 2 else ""
            rule = f"must be a column of single values{hint}, got the shape {column.shape} (split {split}) of"
            problems.append(Problem(f"tasks.{name}.target", rule, target))
        else:
            found.append(column)
    if len(found) < len(task.target):
        return None
    lengths = {len(column) for column in found}
    return found if len(lengths) == 1 else None  # unequal rows are reported for the data set


def _labels(columns: Sequence[np.ndarray], missing: object) -> RawTarget:
    column = columns[0]
    if column.dtype.kind not in "biufO":
        raise ValueError(f"must hold labels, numbers or text, got {column.dtype}")
    if (row := first_odd(column)) is not None:
        raise ValueError(f"must hold labels, numbers or text, in row {row} (from 0), got {shown_value(column[row])}")
    values = np.array(list(texts_of(column)), dtype=object)
    gaps = {"", *(text for text in set(values) if missing is not None and means(text, missing))}
    mask = np.fromiter((text not in gaps for text in values), bool, len(values))
    marked = any(text in gaps and text for text in values)
    return RawTarget(np.where(mask, values, "").astype(object), mask, marked)


def _numbers(columns: Sequence[np.ndarray], task: TaskConfig) -> RawTarget:
    multilabel = task.kind == "multilabel"
    # Not -1, which numpy cannot work out where there are no rows; those are reported for the data set.
    parts = [column.reshape(len(column), math.prod(column.shape[1:])) for column in columns]
    parsed = [_parse(part, task.missing) for part in parts]
    values, marked = np.concatenate([part for part, _ in parsed], axis=1), any(marked for _, marked in parsed)
    mask = ~np.isnan(values)
    wrong = mask & ((values != 0) & (values != 1) if multilabel else np.isinf(values.astype(np.float32)))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        rule = "must hold 0 or 1 (NaN or empty: no label)" if multilabel else "must hold finite numbers"
        raise ValueError(f"{rule}, in row {row} (from 0), got {values[row, column]}")
    values = np.where(mask, values, 0)
    return RawTarget(values, mask, marked) if multilabel else RawTarget(values[:, 0], mask[:, 0], marked)


def _parse(values: np.ndarray, missing: object) -> tuple[np.ndarray, bool]:
    """Numbers (n, k) as float64, NaN where there is none, and whether one is the mark of a missing label.

    Text is taken where it spells a number, the mark too.
    """
    marked = False
    if values.dtype.kind not in "biufO":
        raise ValueError(f"must hold numbers, got {values.dtype}")
    if values.dtype != object:
        numbers = values.astype(np.float64)
    else:
        gap = "" if missing is None else text_of(missing)
        numbers = np.full(values.shape, np.nan)
        for row, value in enumerate(values[:, 0].tolist()):
            if is_missing(value) or text_of(value) in ("", gap):
                marked |= text_of(value) == gap != ""
                continue
            try:
                numbers[row, 0] = float(value)
            except (TypeError, ValueError) as error:
                hint = f" ({HOW_TO_READ})" if is_foreign_number(str(value)) else ""
                raise ValueError(f"must hold numbers{hint}, in row {row} (from 0), got {value!r}") from error
    mark = number_in(missing) if isinstance(missing, str) else missing
    if isinstance(mark, (int, float)):
        marked |= bool((numbers == mark).any())
        numbers[numbers == mark] = np.nan
    return numbers, marked


def meant_label(value: object, labels: Collection[str]) -> str | None:
    """The label that a value of the study file means: that of its text, or else the one that spells its number."""
    if (text := text_of(value)) in labels:
        return text
    spelled = [label for label in labels if means(label, value)]
    return spelled[0] if len(spelled) == 1 else None


def _one_against_rest(raw: Mapping[str, RawTarget], stated: object) -> dict[str, RawTarget]:
    """A stated positive label among more than two: every other label becomes one."""
    labels = {label for target in raw.values() for label in target.values[target.mask]}
    positive = meant_label(stated, labels)
    if len(labels) <= 2 or positive is None:
        return dict(raw)
    rest = f"not {positive}"
    return {
        split: RawTarget(np.where(target.mask & (target.values != positive), rest, target.values), target.mask)
        for split, target in raw.items()
    }
