"""Outcome: what a study found, as plain data and as words."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class TaskOutcome:
    """One task of the best multi-task model against its single-task model.

    Attributes:
        metric: Name of the main metric.
        higher_is_better: Its direction.
        validation: The multi-task model's metric on validation; ``baseline``: the single-task model's.
        gain: Relative gain on validation in percent; positive is better whatever the direction.
        test: The multi-task model's metric on test; ``test_baseline``: the single-task model's.
        test_gain: Relative gain on test in percent.
    """

    metric: str
    higher_is_better: bool
    validation: float
    baseline: float
    gain: float
    test: float
    test_baseline: float
    test_gain: float

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


@dataclass(frozen=True)
class Outcome:
    """What a study found.

    Attributes:
        number: The best trial.
        recipe: Its recipe, plain.
        folder: Where its model lies.
        improvement: Delta_m over the single-task models on validation, in percent.
        test_improvement: The same on test.
        tasks: Outcome by task.
        best_epoch: Epoch of joint training that the model comes from; 0 is right after fusion.
        parameters: Of the model; ``single_parameters``: of all single-task models together.
    """

    number: int
    recipe: Mapping[str, Any]
    folder: str
    improvement: float
    test_improvement: float
    tasks: Mapping[str, TaskOutcome]
    best_epoch: int
    parameters: int
    single_parameters: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Outcome":
        """Inverse of ``to_dict``."""
        return cls(**{**data, "tasks": {name: TaskOutcome(**task) for name, task in data["tasks"].items()}})

    def to_markdown(self) -> str:
        """A description for people: the improvement and each task's gain."""
        lines = [
            f"**{self.improvement:+.2f} %** over single-task models on validation, "
            f"**{self.test_improvement:+.2f} %** on test (mean over tasks of the relative gain; trial {self.number}).",
            "",
            "| task | metric | multi-task (test) | single-task (test) | gain on test | gain on validation |",
            "|---|---|---|---|---|---|",
        ]
        for name, task in self.tasks.items():
            lines.append(
                f"| {name} | {task.metric} | {task.test:.4g} | {task.test_baseline:.4g} "
                f"| {task.test_gain:+.2f} % | {task.gain:+.2f} % |"
            )
        share = self.parameters / self.single_parameters
        lines += ["", f"One model of {self.parameters:,} parameters, {share:.0%} of the single-task models together."]
        return "\n".join(lines)
