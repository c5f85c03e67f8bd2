"""Multilabel: several yes-or-no labels a row, each of which may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from mtl_search.errors import Problem, few_of
from mtl_search.task_kinds.base import MASKED, Alias, Answer, Fit, FittedTask, RawTarget, StatedTask
from mtl_search.task_kinds.labels import BALANCED, list_labels, read_class_weights
from mtl_search.task_kinds.numbers import check_spread, read_numbers, refuse
from mtl_search.task_kinds.yes_no import YesNoKind

if TYPE_CHECKING:
    from torch import Tensor


@final
class Multilabel(YesNoKind):
    """Raw outputs are logits (n, L), targets and mask are (n, L); a label is a column that holds 0 and 1."""

    several_targets: ClassVar[bool] = True
    has_classes: ClassVar[bool] = True
    default_metric: ClassVar[str] = "macro_f1"
    aliases: ClassVar[Mapping[str, Alias]] = {
        "macro_f1": ("MultilabelF1Score", {"average": "macro"}),
        "accuracy": ("MultilabelAccuracy", {"average": "macro"}),
        "auroc": ("MultilabelAUROC", {"average": "macro"}),
    }
    metric_prefix: ClassVar[str] = "Multilabel"
    answer: ClassVar[Answer] = "labels"

    def read(self, columns: Sequence[np.ndarray], stated: StatedTask) -> RawTarget:
        values, marked = read_numbers(columns, stated.missing)
        mask = ~np.isnan(values)
        refuse(values, mask & (values != 0) & (values != 1), "must hold 0 or 1 (NaN or empty: no label)")
        return RawTarget(np.where(mask, values, 0), mask, marked)

    def fit(self, place: str, stated: StatedTask, train: RawTarget, problems: list[Problem]) -> Fit | None:
        if not check_spread(place, train.values[train.mask], problems):
            return None
        labels = tuple(stated.target)
        if train.values.shape[1] != len(labels):  # one column of arrays
            labels = tuple(f"{stated.target[0]}:{index}" for index in range(train.values.shape[1]))
        return Fit(labels)

    def encode(self, task: FittedTask, raw: RawTarget, split: str, problems: list[Problem], known: bool) -> np.ndarray:
        return np.where(raw.mask, raw.values, 0).astype(np.float32)

    def fit_class_weights(
        self, place: str, stated: StatedTask, train: RawTarget, labels: Sequence[str], problems: list[Problem]
    ) -> tuple[float, ...]:
        """First what each label's absence counts, then what its presence counts."""
        if isinstance(stated.class_weight, Mapping):
            given = read_class_weights(place, stated.class_weight, labels, problems)
            return (*[1.0] * len(labels), *(given.get(label, 1.0) for label in labels))
        if stated.class_weight != BALANCED:
            return ()
        half, present = train.mask.sum(0) / 2, (train.values * train.mask).sum(0)
        counts = np.concatenate([2 * half - present, present])
        return tuple((np.tile(half, 2) / np.maximum(counts, 1)).tolist())

    def weigh_labels(self, task: FittedTask, targets: np.ndarray) -> np.ndarray:
        absent, present = np.array(task.class_weights).reshape(2, -1)
        return np.where(targets > 0, present, absent)

    def mismatches(self, task: FittedTask, raw: RawTarget) -> list[Problem]:
        if raw.values.shape[1] == len(task.labels):
            return []
        rule = f"must give the {len(task.labels)} labels that the model's task has"
        return [Problem(f"tasks.{task.name}.target", rule, raw.values.shape[1], few_of(task.labels))]

    def describe(self, task: FittedTask, targets: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
        positive = dict(zip(task.labels, targets.sum(axis=0, dtype=np.int64).tolist(), strict=True))
        return {"labels": int(mask.sum()), "positive": positive}

    def count_rarest(self, described: Mapping[str, Any]) -> int | None:
        entries = described["labels"] // max(len(described["positive"]), 1)
        return int(min(min(count, entries - count) for count in described["positive"].values()))

    def output_shape(self, task: FittedTask) -> tuple[int, ...]:
        return (len(task.labels),)

    def metric_arguments(self, task: FittedTask) -> dict[str, Any]:
        return {"num_labels": len(task.labels), "ignore_index": MASKED}

    def mask_shape(self, targets: Tensor) -> tuple[int, ...]:
        return tuple(targets.shape)

    def describe_answer(self, task: FittedTask) -> str:
        return f"which of {list_labels(task.labels)}"
