"""Outcome: what a study found, as plain data and as words."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mtl_search.search.record import TrialRecord
from mtl_search.training.objective import Goal, Objective
from mtl_search.training.stages import Stage


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
        steps: The metric on validation of the ``base`` with a fresh head, of the model fine-tuned on the task alone
            (``single``), of the ``fused`` and of the ``joint`` model.
    """

    metric: str
    higher_is_better: bool
    validation: float
    baseline: float
    gain: float
    test: float
    test_baseline: float
    test_gain: float
    steps: Mapping[str, float]

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
        multiply_adds: Of one sample through the model; ``single_multiply_adds``: through all single-task models.
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
    multiply_adds: int
    single_multiply_adds: int

    @classmethod
    def of(
        cls,
        trial: TrialRecord,
        stage: Stage,
        metric_names: Mapping[str, str],
        objective: Objective,
        baselines: Mapping[str, Mapping[str, Any]],
        test: Mapping[str, Mapping[str, float]],
    ) -> "Outcome":
        """The outcome of a study whose best trial this is.

        Args:
            trial: Complete.
            stage: Its joint stage, with the recipe as trained.
            metric_names: Main metric by task.
            objective: Knows the baselines on validation.
            baselines: Result of each task's single-task stage.
            test: Metrics by task on test, of the ``joint`` model and of the ``single`` ones.
        """
        goals, metrics = objective.goals, trial.metrics
        against = {t: Goal(g.higher_is_better, test["single"][t], g.scale) for t, g in goals.items()}
        test_objective = Objective(against, objective.kind)
        gains, test_gains = objective.gains(metrics), test_objective.gains(test["joint"])
        return cls(
            number=trial.number,
            recipe=stage.recipe.to_dict(),
            folder=stage.folder,
            improvement=objective.improvement(metrics),
            test_improvement=test_objective.improvement(test["joint"]),
            tasks={
                task: TaskOutcome(
                    metric=metric_names[task],
                    higher_is_better=goal.higher_is_better,
                    validation=metrics[task],
                    baseline=baselines[task]["metrics"][task],
                    gain=gains[task],
                    test=test["joint"][task],
                    test_baseline=test["single"][task],
                    test_gain=test_gains[task],
                    steps={name: values[task] for name, values in trial.steps.items()},
                )
                for task, goal in goals.items()
            },
            best_epoch=trial.best_epoch or 0,
            parameters=trial.parameters or 0,
            single_parameters=sum(result["parameters"] for result in baselines.values()),
            multiply_adds=trial.multiply_adds or 0,
            single_multiply_adds=sum(result["multiply_adds"] for result in baselines.values()),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Outcome":
        """Inverse of ``to_dict``."""
        return cls(**{**data, "tasks": {name: TaskOutcome(**task) for name, task in data["tasks"].items()}})

    def cost(self) -> str:
        """What the model takes, against the single-task models together."""
        stored = self.parameters / max(self.single_parameters, 1)
        run = self.multiply_adds / max(self.single_multiply_adds, 1)
        return (
            f"{self.parameters:,} parameters, {stored:.0%} of the single-task models; "
            f"{self.multiply_adds:,} multiply-adds a sample, {run:.0%}"
        )

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
        lines += ["", f"One model of {self.cost()}.", "", "The way there, on validation:", ""]
        lines += ["| task | base, fresh head | fine-tuned alone | fused | joint |", "|---|---|---|---|---|"]
        for name, task in self.tasks.items():
            lines.append(f"| {name} | {' | '.join(f'{value:.4g}' for value in task.steps.values())} |")
        return "\n".join(lines)
