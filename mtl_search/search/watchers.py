"""Watchers: who hears of a study while it runs; the terminal and MLflow are two."""

from collections.abc import Sequence
from typing import Any, Protocol

from mtl_search.recipe import Recipe
from mtl_search.search.grouping import AffinityMatrix, Groups
from mtl_search.search.record import TrialRecord


class Watcher(Protocol):
    """Who hears of trials: tracking, the terminal, tests."""

    def trial_started(self, number: int, recipe: Recipe) -> None:
        """A trial begins."""

    def trial_reported(self, number: int, report: dict[str, Any]) -> None:
        """A trial has finished an epoch; ``group`` in the report is the worker group that trained it."""

    def trial_ended(self, trial: TrialRecord) -> None:
        """A trial has ended."""


class StudyWatcher(Watcher, Protocol):
    """Who hears of a whole study."""

    def pool_started(self, groups: int) -> None:
        """The worker groups are up."""

    def trials_found(self, trials: Sequence[TrialRecord]) -> None:
        """The study goes on: what it has tried before, in other drivers too, without the recipes; nothing if new."""

    def base_reported(self, name: str, report: dict[str, Any]) -> None:
        """The base of the default recipe has been trained for an epoch."""

    def base_ended(self, name: str, result: dict[str, Any] | None, reason: str) -> None:
        """That base is done, or failed with a reason."""

    def baseline_reported(self, task: str, run: int, report: dict[str, Any]) -> None:
        """A task's single-task model has finished an epoch.

        ``run`` counts from 0, the study's own seed; after the baseline seeds come models of a better schedule.
        """

    def baseline_ended(self, task: str, run: int, result: dict[str, Any] | None, reason: str) -> None:
        """A task's single-task model is done, or failed with a reason."""

    def repeat_started(self, number: int, run: int, recipe: Recipe) -> None:
        """A trial's recipe begins to be run again; ``run`` counts its fresh seeds from 1."""

    def repeat_reported(self, number: int, run: int, report: dict[str, Any]) -> None:
        """A repeat has finished an epoch."""

    def repeat_ended(self, number: int, run: int, result: dict[str, Any] | None, reason: str) -> None:
        """A repeat is done, or failed with a reason."""

    def affinity_measured(self, kind: str, affinity: AffinityMatrix, groups: Groups) -> None:
        """Task affinity is known, and which groups it makes."""


class PartialWatcher(StudyWatcher):
    """Hears of everything and does nothing; a watcher that cares for a part overrides that part."""

    def trial_started(self, number: int, recipe: Recipe) -> None: ...
    def trial_reported(self, number: int, report: dict[str, Any]) -> None: ...
    def trial_ended(self, trial: TrialRecord) -> None: ...
    def pool_started(self, groups: int) -> None: ...
    def trials_found(self, trials: Sequence[TrialRecord]) -> None: ...
    def base_reported(self, name: str, report: dict[str, Any]) -> None: ...
    def base_ended(self, name: str, result: dict[str, Any] | None, reason: str) -> None: ...
    def baseline_reported(self, task: str, run: int, report: dict[str, Any]) -> None: ...
    def baseline_ended(self, task: str, run: int, result: dict[str, Any] | None, reason: str) -> None: ...
    def repeat_started(self, number: int, run: int, recipe: Recipe) -> None: ...
    def repeat_reported(self, number: int, run: int, report: dict[str, Any]) -> None: ...
    def repeat_ended(self, number: int, run: int, result: dict[str, Any] | None, reason: str) -> None: ...
    def affinity_measured(self, kind: str, affinity: AffinityMatrix, groups: Groups) -> None: ...
