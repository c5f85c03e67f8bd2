"""LabelKind: kinds whose target is one label out of a few, and how such a column is read and fitted."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mtl_search.errors import Problem, few_of, shown
from mtl_search.input_kinds.notation import first_odd
from mtl_search.input_kinds.values import means, text_of, texts_of
from mtl_search.task_kinds.base import Fit, FittedTask, RawTarget, StatedTask, TaskKind

BALANCED = "balanced"
"""Class weights by which all labels together count the same in the training rows."""
_MOST_SHOWN = 12


class LabelKind(TaskKind):
    """One label a row. A label is a text; the number 3.0 is the label "3"."""

    labelled: ClassVar[bool] = True
    has_classes: ClassVar[bool] = True

    def read(self, columns: Sequence[np.ndarray], stated: StatedTask) -> RawTarget:
        column = columns[0]
        if column.dtype.kind not in "biufO":
            raise ValueError(f"must hold labels, numbers or text, got {column.dtype}")
        if (row := first_odd(column)) is not None:
            raise ValueError(f"must hold labels, numbers or text, in row {row} (from 0), got {shown(column[row])}")
        values, missing = np.array(list(texts_of(column)), dtype=object), stated.missing
        gaps = {"", *(text for text in set(values) if missing is not None and means(text, missing))}
        mask = np.fromiter((text not in gaps for text in values), bool, len(values))
        marked = any(text in gaps and text for text in values)
        return RawTarget(np.where(mask, values, "").astype(object), mask, marked)

    def fit(self, place: str, stated: StatedTask, train: RawTarget, problems: list[Problem]) -> Fit | None:
        labels = _sort_labels(train.values[train.mask])
        positive = None if stated.positive is None else meant_label(stated.positive, labels)
        if stated.positive is not None and positive is None:
            rule = "must be a label of the training rows"
            problems.append(Problem(f"{place}.positive", rule, stated.positive, few_of(labels)))
            return None
        if wanted := self._wrong_count(len(labels)):
            hint = " (state `positive` to tell one label from all others)" if len(labels) > 2 else ""
            rule = f"must hold {wanted} labels in the training rows{hint}"
            problems.append(Problem(f"{place}.target", rule, list(few_of(labels))))
            return None
        return Fit((labels[1], labels[0]) if positive == labels[0] else labels)

    @abstractmethod
    def _wrong_count(self, labels: int) -> str:
        """How many labels there must be, if that many are wrong; empty if they are right."""

    def encode(self, task: FittedTask, raw: RawTarget, split: str, problems: list[Problem], known: bool) -> np.ndarray:
        codes = {label: code for code, label in enumerate(task.labels)}
        unseen = set(raw.values[raw.mask]) - set(codes)
        if unseen:
            owner = "the model's task does not have" if known else "no training row has"
            rule = f"must not hold labels in {split} that {owner}"
            value, choices = list(few_of(sorted(unseen))), few_of(task.labels)
            problems.append(Problem(f"tasks.{task.name}.target", rule, value, choices))
        return np.array([codes.get(label, 0) for label in raw.values.tolist()], dtype=np.int64)

    def fit_class_weights(
        self, place: str, stated: StatedTask, train: RawTarget, labels: Sequence[str], problems: list[Problem]
    ) -> tuple[float, ...]:
        if isinstance(stated.class_weight, Mapping):
            given = read_class_weights(place, stated.class_weight, labels, problems)
            return tuple(given.get(label, 1.0) for label in labels)
        counts = Counter(train.values[train.mask].tolist())
        each = train.mask.sum() / len(labels)
        return tuple(float(each / counts[label]) for label in labels) if stated.class_weight == BALANCED else ()

    def weigh_labels(self, task: FittedTask, targets: np.ndarray) -> np.ndarray:
        return np.array(task.class_weights)[targets.astype(np.int64)]

    def describe(self, task: FittedTask, targets: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
        per_class = np.bincount(targets[mask].astype(np.int64), minlength=len(task.labels)).tolist()
        return {"labels": int(mask.sum()), "classes": dict(zip(task.labels, per_class, strict=True))}

    def count_rarest(self, described: Mapping[str, Any]) -> int | None:
        return int(min(described["classes"].values()))


def read_class_weights(
    place: str, given: Mapping[str, float], labels: Sequence[str], problems: list[Problem]
) -> dict[str, float]:
    """Weights that a study file gives, by label.

    Args:
        place: Key path of the task, for problems.
        given: As the study file has them.
        labels: Labels of the training rows.
        problems: Grows by what is wrong.
    """
    found = {}
    for name, weight in given.items():
        if (label := meant_label(name, labels)) is None:
            rule = "must weigh labels of the training rows"
            problems.append(Problem(f"{place}.class_weight", rule, name, few_of(labels)))
        elif weight <= 0:
            problems.append(Problem(f"{place}.class_weight.{name}", "must be above 0", weight))
        else:
            found[label] = weight
    return found


def meant_label(value: object, labels: Collection[str]) -> str | None:
    """The label that a value of the study file means: that of its text, or else the one that spells its number."""
    if (text := text_of(value)) in labels:
        return text
    spelled = [label for label in labels if means(label, value)]
    return spelled[0] if len(spelled) == 1 else None


def list_labels(labels: Sequence[str]) -> str:
    """The first labels, for a reader."""
    more = f", … ({len(labels)})" if len(labels) > _MOST_SHOWN else ""
    return ", ".join(labels[:_MOST_SHOWN]) + more


def _sort_labels(present: np.ndarray) -> tuple[str, ...]:
    labels = sorted(set(present.tolist()))
    try:
        return tuple(sorted(labels, key=float))
    except ValueError:
        return tuple(labels)
