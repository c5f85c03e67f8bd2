"""Target columns as read: labels as texts, numbers as numbers, and masks where there is no label.

Stands between the sources and `fitting`, which learns from the training rows what the labels and units are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtl_search.config import TaskConfig
from mtl_search.data.datasets import DataSet, find_column
from mtl_search.data.encoding import is_missing, text_of, texts_of
from mtl_search.data.sources.base import shown
from mtl_search.data.sources.parquet_rows import Rows
from mtl_search.errors import Problem


@dataclass(frozen=True)
class RawTarget:
    """A target as read, before anything is fitted.

    Attributes:
        values: Labels (n,) as texts, "" where there is none; or numbers (n,), or 0 and 1 (n, L), 0 where there is none.
        mask: Where there is a label; bool, same shape.
    """

    values: np.ndarray
    mask: np.ndarray

    def take(self, rows: np.ndarray) -> RawTarget:
        """The target at some rows."""
        return RawTarget(self.values[rows], self.mask[rows])


def read_target(name: str, task: TaskConfig, dataset: DataSet, problems: list[Problem]) -> dict[str, RawTarget] | None:
    """Reads a task's target from every given split; None, with problems added, if a column cannot be read."""
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
    if task.kind == "binary" and task.positive is not None:
        return _one_against_rest(raw, text_of(task.positive))
    return raw


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
    values = np.array(list(texts_of(columns[0])), dtype=object)
    mask = values != ""
    if missing is not None:
        mask &= values != text_of(missing)
    return RawTarget(np.where(mask, values, "").astype(object), mask)


def _numbers(columns: Sequence[np.ndarray], task: TaskConfig) -> RawTarget:
    multilabel = task.kind == "multilabel"
    # Not -1, which numpy cannot work out where there are no rows; those are reported for the data set.
    parts = [column.reshape(len(column), math.prod(column.shape[1:])) for column in columns]
    values = np.concatenate([_parse(part, task.missing) for part in parts], axis=1)
    mask = ~np.isnan(values)
    wrong = mask & ((values != 0) & (values != 1) if multilabel else np.isinf(values.astype(np.float32)))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        rule = "must hold 0 or 1 (NaN or empty: no label)" if multilabel else "must hold finite numbers"
        raise ValueError(f"{rule}, in row {row} (from 0), got {values[row, column]}")
    values = np.where(mask, values, 0)
    return RawTarget(values, mask) if multilabel else RawTarget(values[:, 0], mask[:, 0])


def _parse(values: np.ndarray, missing: object) -> np.ndarray:
    """Numbers (n, k) as float64, NaN where there is none; text is taken where it spells a number."""
    if values.dtype.kind not in "biufO":
        raise ValueError(f"must hold numbers, got {values.dtype}")
    if values.dtype != object:
        numbers = values.astype(np.float64)
    else:
        gap = "" if missing is None else text_of(missing)
        numbers = np.full(values.shape, np.nan)
        for row, value in enumerate(values[:, 0].tolist()):
            if is_missing(value) or text_of(value) in ("", gap):
                continue
            try:
                numbers[row, 0] = float(value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"must hold numbers, in row {row} (from 0), got {value!r}") from error
    if isinstance(missing, (int, float)):
        numbers[numbers == missing] = np.nan
    return numbers


def _one_against_rest(raw: Mapping[str, RawTarget], positive: str) -> dict[str, RawTarget]:
    """A stated positive label among more than two: every other label becomes one."""
    labels = {label for target in raw.values() for label in target.values[target.mask]}
    if len(labels) <= 2 or positive not in labels:
        return dict(raw)
    rest = f"not {positive}"
    return {
        split: RawTarget(np.where(target.mask & (target.values != positive), rest, target.values), target.mask)
        for split, target in raw.items()
    }
