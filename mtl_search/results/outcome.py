"""Outcome: what a study found, as plain data and as words."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mtl_search.results.markdown import outcome_markdown
from mtl_search.results.objective import Goal, Objective
from mtl_search.results.statistics import Estimate


@dataclass(frozen=True)
class TaskOutcome:
    """One task of the best multi-task model against its single-task model.

    Attributes:
        metric: Name of the main metric; ``loss`` for a task that is not judged.
        higher_is_better: Its direction.
        validation: The multi-task model's metric on validation; ``baseline``: the single-task model's.
        gain: Relative gain on validation in percent; positive is better whatever the direction.
        test: The multi-task model's metric on test; ``test_baseline``: the single-task model's. None where the metric
            is not defined on the test labels.
        test_gain: Relative gain on test in percent; None as ``test``.
        steps: The metric on validation of the ``base`` with a fresh head, of the model fine-tuned on the task alone
            (``single``), of the ``fused`` and of the ``joint`` model.
        scale: Natural scale of the metric, see ``Goal``.
        baseline_runs: Validation metric of the single-task model by seed; ``baseline`` is their mean.
        test_baseline_runs: The same on test.
        baseline_trial: The trial whose schedule makes the baseline; None for the default recipe's and tuned schedules.
        baseline_words: Which single-task models make the baseline; empty in a study of an earlier version.
        under_trained: Whether the baseline was still getting better in its last epoch.
        weight: How much the gain counts in the mean over tasks.
        limit: Largest gain in percent that counts; None for no limit.
        judged: Whether the metric is defined on the validation labels.
        standard_error: Of the single-task model's metric over draws of the validation rows; None where it is not known.
        labels: On validation; None where it is not known.
        repeated: Gain on validation over fresh runs of the winner; None where it was not run again.
        repeated_test: The same on test.
        rows_test: Gain on test with its interval over other rows instead of other trainings.
        worse: The alarm: with confidence worse than alone.
    """

    metric: str
    higher_is_better: bool
    validation: float
    baseline: float
    gain: float
    test: float | None
    test_baseline: float | None
    test_gain: float | None
    steps: Mapping[str, float]
    scale: float = 1.0
    baseline_runs: tuple[float, ...] = ()
    test_baseline_runs: tuple[float, ...] = ()
    baseline_trial: int | None = None
    baseline_words: str = ""
    under_trained: bool = False
    weight: float = 1.0
    limit: float | None = None
    judged: bool = True
    standard_error: float | None = None
    labels: int | None = None
    repeated: Estimate | None = None
    repeated_test: Estimate | None = None
    rows_test: Estimate | None = None
    worse: bool = False

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


@dataclass(frozen=True)
class Candidate:
    """A trial whose recipe was run again over fresh seeds.

    Attributes:
        number: The trial.
        folder: Where its model lies.
        improvement: What it came to in the search, in percent.
        repeated: Improvement of the fresh runs on validation.
        parameters: Of its model.
        epoch_seconds: Time of the fastest joint epoch.
        tied: Whether it cannot be told from the winner.
    """

    number: int
    folder: str
    improvement: float
    repeated: Estimate
    parameters: int
    epoch_seconds: float
    tied: bool


@dataclass(frozen=True)
class Proposal:
    """Another grouping of the tasks, where one does worse than alone.

    Attributes:
        groups: Tasks that should share a trunk.
        parameters: Of a model with a trunk for each group.
    """

    groups: tuple[tuple[str, ...], ...]
    parameters: int


@dataclass(frozen=True)
class Outcome:
    """What a study found.

    Attributes:
        number: The best trial.
        recipe: Its recipe, plain.
        folder: Where its model lies.
        improvement: Delta_m over the single-task models on validation, in percent.
        test_improvement: The same on test, over the tasks whose metric is defined there; None without any.
        tasks: Outcome by task.
        best_epoch: Epoch of joint training that the model comes from; 0 is right after fusion.
        parameters: Of the model; ``single_parameters``: of all single-task models together.
        multiply_adds: Of one sample through the model; ``single_multiply_adds``: through all single-task models.
        repeated: Improvement on validation over fresh runs of the winner; None where it was not run again.
        repeated_test: The same on test.
        rows_test: Improvement on test with its interval over other rows instead of other trainings.
        first_improvement: What ``repeated`` would be over the default recipe's single-task models; None where these are
            the best known.
        candidates: Trials that were run again, the winner first, the others by their mean.
        ties: Numbers of the trials run again that cannot be told from the winner.
        alike: Numbers of the other trials that cannot, by their one run in the search.
        reach: By how many points a single run may be off, as far as can be told; None where it cannot.
        challenger: The cheapest of the candidates that are tied with the winner and cheaper; None where there is none.
        proposal: A better grouping where a task does worse than alone and affinity is known.
    """

    number: int
    recipe: Mapping[str, Any]
    folder: str
    improvement: float
    test_improvement: float | None
    tasks: Mapping[str, TaskOutcome]
    best_epoch: int
    parameters: int
    single_parameters: int
    multiply_adds: int
    single_multiply_adds: int
    repeated: Estimate | None = None
    repeated_test: Estimate | None = None
    rows_test: Estimate | None = None
    first_improvement: float | None = None
    candidates: tuple[Candidate, ...] = ()
    ties: tuple[int, ...] = ()
    alike: tuple[int, ...] = ()
    reach: float | None = None
    challenger: int | None = None
    proposal: Proposal | None = None

    @property
    def optimism(self) -> float | None:
        """The search's figure of the winner less the mean of its fresh runs, in points of percent."""
        return None if self.repeated is None else self.improvement - self.repeated.mean

    @property
    def worse(self) -> tuple[str, ...]:
        """Tasks that do worse than alone, with confidence."""
        return tuple(name for name, task in self.tasks.items() if task.worse)

    @property
    def undefined(self) -> tuple[str, ...]:
        """Tasks whose metric is not defined on the test labels: figures on test leave them out."""
        return tuple(name for name, task in self.tasks.items() if task.test_gain is None and task.judged)

    @property
    def unjudged(self) -> tuple[str, ...]:
        """Tasks whose metric is not defined on the validation labels: they count in no figure."""
        return tuple(name for name, task in self.tasks.items() if not task.judged)

    @property
    def untested(self) -> str:
        """Why it could not be told whether a task does worse than alone; empty where it could."""
        tasks = [task for task in self.tasks.values() if task.judged]
        if self.worse:
            return ""
        if any(task.repeated is None or task.repeated.low is None for task in tasks):
            return "the winner was not run again often enough (search.repeats)"
        return ""

    @property
    def tied_others(self) -> list[int]:
        """Numbers of the trials that cannot be told from the winner, without it."""
        return [number for number in self.ties if number != self.number]

    @property
    def cheaper(self) -> Candidate | None:
        """The challenger."""
        return next((each for each in self.candidates if each.number == self.challenger), None)

    @property
    def objective(self) -> Objective:
        """Improvement against the baselines that count in the end; judges any trial's metrics."""
        return Objective(
            {
                name: Goal(task.higher_is_better, task.baseline, task.scale, task.weight, task.limit, task.judged)
                for name, task in self.tasks.items()
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Outcome":
        """Inverse of ``to_dict``."""
        tasks = {name: TaskOutcome(**_estimates(task)) for name, task in data["tasks"].items()}
        parts = {**_estimates(data), "tasks": tasks}
        parts["candidates"] = tuple(Candidate(**_estimates(each)) for each in data.get("candidates", ()))
        if data.get("proposal") is not None:
            found = data["proposal"]
            parts["proposal"] = Proposal(tuple(map(tuple, found["groups"])), found["parameters"])
        return cls(**parts)

    def cost(self) -> str:
        """What the model takes, against the single-task models together."""
        stored = self.parameters / max(self.single_parameters, 1)
        run = self.multiply_adds / max(self.single_multiply_adds, 1)
        return (
            f"{self.parameters:,} parameters, {stored:.0%} of the single-task models; "
            f"{self.multiply_adds:,} multiply-adds a sample, {run:.0%}"
        )

    def to_markdown(self) -> str:
        """A description for people: the improvement, each task's gain, and how far to trust both."""
        return outcome_markdown(self)


def _estimates(data: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values with estimates made of mappings, and tuples of lists of numbers."""
    made: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    for name in ("repeated", "repeated_test", "rows_test"):
        if data.get(name) is not None:
            made[name] = Estimate(**data[name])
    return made
