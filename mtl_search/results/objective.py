"""Objective: validation metrics of all tasks -> the score a study maximises, and each task's gain over its baseline.

Pure arithmetic on plain numbers. The training loss never enters, so no choice of loss weights can move the score.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mtl_search.config.search_config import MEAN_IMPROVEMENT, WORST_TASK

FLOOR = 0.01
"""A baseline counts as at least this part of its metric's natural scale, so that a gain stays finite near zero."""


@dataclass(frozen=True)
class Goal:
    """What one task is judged by.

    Attributes:
        higher_is_better: Direction of the task's main metric.
        baseline: Validation metric of the single-task model; None where there is none yet.
        scale: Natural scale of the metric: 1 for scores, for errors the error of predicting the training mean.
        weight: How much the task's gain counts in the mean over tasks; 0 leaves it out.
        limit: Largest gain, in percent and in either direction, that counts; None for no limit. It is set where the
            baseline is so close to zero that a ratio to it says nothing.
        judged: Whether the metric is defined on the validation labels. If not, the loss stands in for it and picks the
            best epoch of the task's single-task models, and the task has no weight.
    """

    higher_is_better: bool
    baseline: float | None = None
    scale: float = 1.0
    weight: float = 1.0
    limit: float | None = None
    judged: bool = True

    def gain(self, value: float) -> float:
        """Relative gain over the baseline in percent; positive is better, whatever the metric's direction.

        The difference is divided by ``max(|baseline|, FLOOR * scale)``.
        """
        if self.baseline is None:
            raise ValueError("a gain needs a baseline")
        sign = 1.0 if self.higher_is_better else -1.0
        gain = 100.0 * sign * (value - self.baseline) / max(abs(self.baseline), FLOOR * self.scale)
        return gain if self.limit is None else min(max(gain, -self.limit), self.limit)

    def signed(self, value: float) -> float:
        """The metric itself, turned so that higher is better."""
        return value if self.higher_is_better else -value

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without what is at its default among weight, limit and judged."""
        later = {"weight": 1.0, "limit": None, "judged": True}
        return {name: value for name, value in asdict(self).items() if name not in later or value != later[name]}


@dataclass(frozen=True)
class Objective:
    """What a stage maximises on validation.

    Attributes:
        goals: Goal by task.
        kind: ``mean_improvement`` (Delta_m of Vandenhende et al. 2021, the tasks weighted), ``worst_task`` (smallest
            gain of the tasks that count), or a task's name (that task's main metric, sign-corrected).
    """

    goals: Mapping[str, Goal] = field(default_factory=dict)
    kind: str = MEAN_IMPROVEMENT

    def gains(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Gain of every task in percent.

        Args:
            metrics: Main validation metric by task, in the metric's own unit.
        """
        return {task: goal.gain(metrics[task]) for task, goal in self.goals.items()}

    def improvement(self, metrics: Mapping[str, float]) -> float:
        """Delta_m: weighted mean over tasks of the gain, in percent."""
        return self.mean(self.gains(metrics))

    def mean(self, gains: Mapping[str, float]) -> float:
        """The weighted mean of a number per task."""
        weights = {task: goal.weight for task, goal in self.goals.items() if goal.weight}
        return sum(weights[task] * gains[task] for task in weights) / sum(weights.values())

    @property
    def compares(self) -> bool:
        """Whether every task has a baseline to be compared with."""
        return bool(self.goals) and all(goal.baseline is not None for goal in self.goals.values())

    def score(self, metrics: Mapping[str, float]) -> float:
        """The number to maximise."""
        if self.kind == MEAN_IMPROVEMENT:
            return self.improvement(metrics)
        if self.kind == WORST_TASK:
            return min(gain for task, gain in self.gains(metrics).items() if self.goals[task].weight)
        return self.goals[self.kind].signed(metrics[self.kind])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values. What is at its default is left out of a goal, so that keys made of it stay the same."""
        return {"goals": {task: goal.to_dict() for task, goal in self.goals.items()}, "kind": self.kind}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Objective":
        """Inverse of ``to_dict``."""
        return cls({task: Goal(**goal) for task, goal in data["goals"].items()}, data["kind"])
