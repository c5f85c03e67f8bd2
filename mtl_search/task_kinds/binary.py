"""Binary: one of two labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np

from mtl_search.errors import Problem
from mtl_search.task_kinds.base import Alias, Answer, FittedTask, RawTarget, StatedTask
from mtl_search.task_kinds.labels import LabelKind, list_labels, meant_label
from mtl_search.task_kinds.yes_no import YesNoKind


@final
class Binary(LabelKind, YesNoKind):
    """Raw outputs are logits (n,) of the second label, targets are 0 and 1 (n,) float32."""

    has_positive: ClassVar[bool] = True
    default_metric: ClassVar[str] = "accuracy"
    aliases: ClassVar[Mapping[str, Alias]] = {
        "accuracy": ("BinaryAccuracy", {}),
        "auroc": ("BinaryAUROC", {}),
        "average_precision": ("BinaryAveragePrecision", {}),
        "f1": ("BinaryF1Score", {}),
        "matthews": ("BinaryMatthews", {}),
    }
    metric_prefix: ClassVar[str] = "Binary"
    answer: ClassVar[Answer] = "second_label"

    def merge_labels(self, targets: Mapping[str, RawTarget], stated: StatedTask) -> dict[str, RawTarget]:
        """Replace every label but the stated positive one by one label, where there are more than two."""
        labels = {label for target in targets.values() for label in target.values[target.mask]}
        positive = None if stated.positive is None else meant_label(stated.positive, labels)
        if len(labels) <= 2 or positive is None:
            return dict(targets)
        rest = f"not {positive}"
        return {
            split: RawTarget(np.where(target.mask & (target.values != positive), rest, target.values), target.mask)
            for split, target in targets.items()
        }

    def _wrong_count(self, labels: int) -> str:
        return "" if labels == 2 else "exactly 2"

    def encode(self, task: FittedTask, raw: RawTarget, split: str, problems: list[Problem], known: bool) -> np.ndarray:
        return super().encode(task, raw, split, problems, known).astype(np.float32)

    def own_metrics(self) -> dict[str, type[Any]]:
        from mtl_search.task_kinds.correlations import BinaryMatthews

        return {"BinaryMatthews": BinaryMatthews}

    def positive_label(self, task: FittedTask) -> str | None:
        return task.labels[1]

    def output_shape(self, task: FittedTask) -> tuple[int, ...]:
        return ()

    def describe_answer(self, task: FittedTask) -> str:
        return f"{list_labels(task.labels)} (probability of the second)"
