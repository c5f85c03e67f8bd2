"""What a task is, once its data is known: plain data that models, losses, metrics and exports are built from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mtl_search.recipe import Component
from mtl_search.task_kinds import TASK_KINDS
from mtl_search.task_kinds.base import TaskKind


@dataclass(frozen=True)
class Task:
    """One learning task on one data set.

    Attributes:
        name: The task's name in the study.
        kind: Name of its kind in ``TASK_KINDS``.
        dataset: The data set whose rows carry the target.
        labels: Labels in the order of the outputs; of two labels with one output, the second is 1. Empty for numbers.
        center: What is taken off a number, in the target's own unit; 0 for labels.
        scale: What a number is then divided by, in the target's own unit, never 0; 1 for labels.
        loss: Name of the training loss, one of its kind's.
        metric: Name and parameters of the metric that judges the task.
        target: The target column, or the columns.
        loss_params: Parameters of the loss that are not at their default.
        class_weights: What each label counts in the loss, as its kind fitted it; empty where all count 1.
    """

    name: str
    kind: str
    dataset: str
    labels: tuple[str, ...]
    center: float
    scale: float
    loss: str
    metric: Component
    target: str | tuple[str, ...]
    loss_params: Mapping[str, Any] = field(default_factory=dict, hash=False)
    class_weights: tuple[float, ...] = ()

    @property
    def behaviour(self) -> TaskKind:
        """What its kind knows."""
        return TASK_KINDS[self.kind]

    @property
    def outputs(self) -> int:
        """Number of raw outputs that a head gives for one row."""
        return math.prod(self.behaviour.output_shape(self))

    @property
    def double(self) -> bool:
        """Whether values in the target's own unit take float64."""
        return self.behaviour.needs_double(self)

    def to_dict(self) -> dict[str, Any]:
        """The task as plain JSON, without what is at its default, so that keys made of it stay the same."""
        later = {"loss_params": dict(self.loss_params), "class_weights": list(self.class_weights)}
        return {
            "name": self.name,
            "kind": self.kind,
            "dataset": self.dataset,
            "labels": list(self.labels),
            "center": self.center,
            "scale": self.scale,
            "loss": self.loss,
            "metric": {"name": self.metric.name, "params": dict(self.metric.params)},
            "target": self.target if isinstance(self.target, str) else list(self.target),
            **{name: value for name, value in later.items() if value},
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Task:
        """The task that `to_dict` wrote."""
        target = plain["target"]
        return cls(
            **{
                **plain,
                "labels": tuple(plain["labels"]),
                "metric": Component(plain["metric"]["name"], plain["metric"]["params"]),
                "target": target if isinstance(target, str) else tuple(target),
                "class_weights": tuple(plain.get("class_weights", ())),
            }
        )
