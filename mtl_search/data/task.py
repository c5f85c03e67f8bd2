"""What a task is, once its data is known: plain data that models, losses, metrics and exports are built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mtl_search.recipe import Component

Kind = Literal["classification", "binary", "regression", "multilabel"]

# The first loss of a kind is its default.
LOSSES: dict[str, tuple[str, ...]] = {
    "classification": ("cross_entropy",),
    "binary": ("bce",),
    "regression": ("mse", "l1", "huber"),
    "multilabel": ("bce",),
}

_FAR = 128
_LARGE = 2.0**40

DEFAULT_METRICS: dict[str, str] = {
    "classification": "accuracy",
    "binary": "accuracy",
    "regression": "rmse",
    "multilabel": "macro_f1",
}


@dataclass(frozen=True)
class Task:
    """One learning task on one data set.

    Attributes:
        name: The task's name in the study.
        kind: What is predicted: one of several classes, one of two, a number, or several yes-or-no labels.
        dataset: The data set whose rows carry the target.
        labels: Classification: the classes in the order of the outputs. Binary: (the label that is 0, the one that is
            1). Multilabel: the labels' names in the order of the outputs. Regression: empty.
        center: Regression: mean of the training targets, in raw units; 0 for other kinds.
        scale: Regression: standard deviation of the training targets, in raw units, never 0; 1 for other kinds.
        loss: Name of the training loss, one of `LOSSES[kind]`.
        metric: Name and parameters of the metric that judges the task.
        target: The target column, or the columns of a multilabel task.
    """

    name: str
    kind: Kind
    dataset: str
    labels: tuple[str, ...]
    center: float
    scale: float
    loss: str
    metric: Component
    target: str | tuple[str, ...]

    @property
    def outputs(self) -> int:
        """Number of raw outputs that a head gives for one row."""
        return len(self.labels) if self.kind in ("classification", "multilabel") else 1

    @property
    def double(self) -> bool:
        """Whether values in the target's own unit take float64.

        Far from zero, float32 rounds away what tells two values apart: at 1.7e9 its steps are 128 wide. Squares of such
        values lose twice as many digits, so 128 standard deviations are the limit. Squares of values as large as
        2**40, or as small as 2**-40, come near the ends of float32's range.
        """
        far = abs(self.center) > _FAR * self.scale
        return self.kind == "regression" and (far or not 1 / _LARGE < self.scale < _LARGE)

    def to_dict(self) -> dict[str, Any]:
        """The task as plain JSON."""
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
            }
        )
