"""Callbacks: what is told of a study while it runs; the terminal, MLflow and the study's own files listen.

Everything that a study trains is a run: a base, a single-task model, a trial, a repeat. The news of a run are events.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mtl_search.pool.jobs import Update
from mtl_search.recipe import Recipe
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.contenders import Contender
from mtl_search.search.grouping import AffinityMatrix, TaskGroups
from mtl_search.search.reliability import Reliability
from mtl_search.storage.reports import EpochReport, StageResult


@dataclass(frozen=True)
class BaseRun:
    """Training of the base of the default recipe.

    Attributes:
        name: The base's variant.
    """

    name: str


@dataclass(frozen=True)
class BaselineRun:
    """Training of a single-task model.

    Attributes:
        contender: How it is trained.
        task: Its task.
        seed: 0 for the study's own.
    """

    contender: Contender
    task: str
    seed: int


@dataclass(frozen=True)
class TrialRun:
    """A trial.

    Attributes:
        number: The trial's.
    """

    number: int


@dataclass(frozen=True)
class RepeatRun:
    """A trial's recipe trained again on a fresh seed.

    Attributes:
        number: The trial's.
        seed: The fresh one.
    """

    number: int
    seed: int


Run = BaseRun | BaselineRun | TrialRun | RepeatRun


@dataclass(frozen=True)
class RunStarted:
    """A trial or a repeat begins. Bases and single-task models begin with their first epoch, or end from the cache.

    Attributes:
        run: Which.
        recipe: What is trained.
    """

    run: TrialRun | RepeatRun
    recipe: Recipe


@dataclass(frozen=True)
class EpochEnded:
    """A run has finished an epoch.

    Attributes:
        run: Which.
        report: What came of the epoch; ``group`` is the worker group that trained it.
    """

    run: Run
    report: EpochReport


@dataclass(frozen=True)
class RunEnded:
    """A base, a single-task model or a repeat is done, or failed.

    Attributes:
        run: Which.
        result: What came of it; None where it failed.
        reason: Why it failed.
    """

    run: BaseRun | BaselineRun | RepeatRun
    result: StageResult | None
    reason: str


@dataclass(frozen=True)
class TrialEnded:
    """A trial has ended, in whatever state.

    Attributes:
        trial: What became of it.
    """

    trial: TrialRecord


RunEvent = RunStarted | EpochEnded | RunEnded | TrialEnded


def news_of(run: BaseRun | BaselineRun | RepeatRun, update: Update) -> Iterator[RunEvent]:
    """The events of a run that its job's update stands for."""
    for report in update.reports:
        yield EpochEnded(run, report)
    if update.state.ended:
        yield RunEnded(run, update.result, update.reason)


class Callback:
    """Listens to a study and does nothing; subclasses override what they care for."""

    def on_pool_start(self, groups: int) -> None:
        """The worker groups are up; so many."""

    def on_trials_loaded(self, trials: Sequence[TrialRecord]) -> None:
        """The study goes on: what it has tried before, in other drivers too, without the recipes; nothing if new."""

    def on_run(self, event: RunEvent) -> None:
        """There is news of a run."""

    def on_contender_trained(self, contender: Contender, metrics: Mapping[str, float], seeds: int) -> None:
        """All single-task models of a contender but the default recipe are there: mean metric by task over so many."""

    def on_reliability_measured(self, tasks: Mapping[str, Reliability]) -> None:
        """It is known how far the validation rows tell each task's metric, and how much its gain counts."""

    def on_affinity_measured(self, kind: str, affinity: AffinityMatrix, groups: TaskGroups) -> None:
        """Task affinity is known, and which groups it makes."""

    def on_note(self, text: str) -> None:
        """There is something that the user should know; a line."""


class CallbackList(Callback):
    """Calls several callbacks, one after the other.

    Args:
        callbacks: In the order in which they are called.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = tuple(callbacks)

    def on_pool_start(self, groups: int) -> None:
        for callback in self._callbacks:
            callback.on_pool_start(groups)

    def on_trials_loaded(self, trials: Sequence[TrialRecord]) -> None:
        for callback in self._callbacks:
            callback.on_trials_loaded(trials)

    def on_run(self, event: RunEvent) -> None:
        for callback in self._callbacks:
            callback.on_run(event)

    def on_contender_trained(self, contender: Contender, metrics: Mapping[str, float], seeds: int) -> None:
        for callback in self._callbacks:
            callback.on_contender_trained(contender, metrics, seeds)

    def on_reliability_measured(self, tasks: Mapping[str, Reliability]) -> None:
        for callback in self._callbacks:
            callback.on_reliability_measured(tasks)

    def on_affinity_measured(self, kind: str, affinity: AffinityMatrix, groups: TaskGroups) -> None:
        for callback in self._callbacks:
            callback.on_affinity_measured(kind, affinity, groups)

    def on_note(self, text: str) -> None:
        for callback in self._callbacks:
            callback.on_note(text)
