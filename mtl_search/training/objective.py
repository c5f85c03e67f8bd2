"""Objective: validation metrics of all tasks -> the score a study maximises, and each task's gain over its baseline.

Pure arithmetic on plain numbers. The training loss never enters, so no choice of loss weights can move the score.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mtl_search.search_config import MEAN_IMPROVEMENT, WORST_TASK

FLOOR = 0.01
"""A baseline counts as at least this part of its metric's natural scale, so that a gain stays finite near zero."""


@dataclass(frozen=True)
class Goal:
    """What one task is judged by.

    Attributes:
        higher_is_better: Direction of the task's main metric.
        baseline: Validation metric of the single-task model; None where there is none yet.
        scale: Natural scale of the metric: 1 for scores, for errors the error of predicting the training mean.
    """

    higher_is_better: bool
    baseline: float | None = None
    scale: float = 1.0

    def gain(self, value: float) -> float:
        """Relative gain over the baseline in percent; positive is better, whatever the metric's direction.

        The difference is divided by ``max(|baseline|, FLOOR * scale)``.
        """
        if self.baseline is None:
            raise ValueError("a gain needs a baseline")
        sign = 1.0 if self.higher_is_better else -1.0
        return 100.0 * sign * (value - self.baseline) / max(abs(self.baseline), FLOOR * self.scale)

    def signed(self, value: float) -> float:
        """The metric itself, turned so that higher is better."""
        return value if self.higher_is_better else -value


@dataclass(frozen=True)
class Objective:
    """What a stage maximises on validation.

    Attributes:
        goals: Goal by task.
        kind: ``mean_improvement`` (Delta_m of Vandenhende et al. 2021), ``worst_task`` (smallest gain), or a task's
            name (that task's main metric, sign-corrected).
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
        """Delta_m: mean over tasks of the gain, in percent."""
        gains = self.gains(metrics)
        return sum(gains.values()) / len(gains)

    @property
    def compares(self) -> bool:
        """Whether every task has a baseline to be compared with."""
        return bool(self.goals) and all(goal.baseline is not None for goal in self.goals.values())

    def score(self, metrics: Mapping[str, float]) -> float:
        """The number to maximise."""
        if self.kind == MEAN_IMPROVEMENT:
            return self.improvement(metrics)
        if self.kind == WORST_TASK:
            return min(self.gains(metrics).values())
        return self.goals[self.kind].signed(metrics[self.kind])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Objective":
        """Inverse of ``to_dict``."""
        return cls({task: Goal(**goal) for task, goal in data["goals"].items()}, data["kind"])
