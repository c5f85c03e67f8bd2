"""Watchers: who hears of a study while it runs; the terminal and MLflow are two."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from mtl_search.recipe import Recipe
from mtl_search.search.contenders import Contender
from mtl_search.search.grouping import AffinityMatrix, Groups
from mtl_search.search.record import TrialRecord
from mtl_search.search.reliability import Reliability
from mtl_search.training.reports import EpochReport, StageResult


class Watcher(Protocol):
    """Who hears of trials: tracking, the terminal, tests."""

    def trial_started(self, number: int, recipe: Recipe) -> None:
        """A trial begins."""

    def trial_reported(self, number: int, report: EpochReport) -> None:
        """A trial has finished an epoch; ``group`` in the report is the worker group that trained it."""

    def trial_ended(self, trial: TrialRecord) -> None:
        """A trial has ended."""


class StudyWatcher(Watcher, Protocol):
    """Who hears of a whole study."""

    def pool_started(self, groups: int) -> None:
        """The worker groups are up."""

    def trials_found(self, trials: Sequence[TrialRecord]) -> None:
        """The study goes on: what it has tried before, in other drivers too, without the recipes; nothing if new."""

    def base_reported(self, name: str, report: EpochReport) -> None:
        """The base of the default recipe has been trained for an epoch."""

    def base_ended(self, name: str, result: StageResult | None, reason: str) -> None:
        """That base is done, or failed with a reason."""

    def baseline_reported(self, contender: Contender, task: str, seed: int, report: EpochReport) -> None:
        """A task's single-task model has finished an epoch; seed 0 is the study's own."""

    def baseline_ended(
        self, contender: Contender, task: str, seed: int, result: StageResult | None, reason: str
    ) -> None:
        """A task's single-task model is done, or failed with a reason."""

    def contender_trained(self, contender: Contender, metrics: Mapping[str, float], seeds: int) -> None:
        """All single-task models of a contender but the default recipe are there: mean metric by task over so many."""

    def reliability_measured(self, tasks: Mapping[str, Reliability]) -> None:
        """It is known how far the validation rows tell each task's metric, and how much its gain counts."""

    def noted(self, text: str) -> None:
        """There is something that the user should know; a line."""

    def repeat_started(self, number: int, seed: int, recipe: Recipe) -> None:
        """A trial's recipe begins to be run again on a fresh seed."""

    def repeat_reported(self, number: int, seed: int, report: EpochReport) -> None:
        """A repeat has finished an epoch."""

    def repeat_ended(self, number: int, seed: int, result: StageResult | None, reason: str) -> None:
        """A repeat is done, or failed with a reason."""

    def affinity_measured(self, kind: str, affinity: AffinityMatrix, groups: Groups) -> None:
        """Task affinity is known, and which groups it makes."""


class PartialWatcher(StudyWatcher):
    """Hears of everything and does nothing; a watcher that cares for a part overrides that part."""

    def trial_started(self, number: int, recipe: Recipe) -> None: ...
    def trial_reported(self, number: int, report: EpochReport) -> None: ...
    def trial_ended(self, trial: TrialRecord) -> None: ...
    def pool_started(self, groups: int) -> None: ...
    def trials_found(self, trials: Sequence[TrialRecord]) -> None: ...
    def base_reported(self, name: str, report: EpochReport) -> None: ...
    def base_ended(self, name: str, result: StageResult | None, reason: str) -> None: ...
    def baseline_reported(self, contender: Contender, task: str, seed: int, report: EpochReport) -> None: ...
    def baseline_ended(
        self, contender: Contender, task: str, seed: int, result: StageResult | None, reason: str
    ) -> None: ...
    def contender_trained(self, contender: Contender, metrics: Mapping[str, float], seeds: int) -> None: ...
    def reliability_measured(self, tasks: Mapping[str, Reliability]) -> None: ...
    def noted(self, text: str) -> None: ...
    def repeat_started(self, number: int, seed: int, recipe: Recipe) -> None: ...
    def repeat_reported(self, number: int, seed: int, report: EpochReport) -> None: ...
    def repeat_ended(self, number: int, seed: int, result: StageResult | None, reason: str) -> None: ...
    def affinity_measured(self, kind: str, affinity: AffinityMatrix, groups: Groups) -> None: ...
