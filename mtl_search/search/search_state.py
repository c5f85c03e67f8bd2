"""Standing: how far a study is by its storage, whoever ran its trials: what has ended, what is tried, what is left.

Between the searcher and the bounded history; the one place that knows of other drivers' trials.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial

from mtl_search.recipe import Recipe, content_key
from mtl_search.results.trial_record import INTERRUPTED, REFUSED
from mtl_search.search.callbacks import Callback
from mtl_search.search.driver_group import DriverGroup
from mtl_search.search.requeue import DRIVER
from mtl_search.study_store.bounded_history import BoundedTrialHistory


@dataclass
class RunningTrial:
    """A trial that this driver runs.

    Attributes:
        trial: Optuna's.
        recipe: What it tries.
        key: Of its joint stage's job.
        started: By the machine's monotonic clock.
        epoch: The last one heard of; -1 for none.
        best: The best score so far.
    """

    trial: Trial
    recipe: Recipe
    key: str
    started: float
    epoch: int = -1
    best: float | None = None


class SearchState:
    """See the module.

    Args:
        bounded_history: Of the study.
        budget: Trials in all.
        callbacks: Are told of trials of dead drivers.
        drivers: This driver among others; None where it is alone.
        key_of: Key of a trial's recipe from its user attributes; empty for a trial without one.

    Attributes:
        known: Trial that has ended by its recipe's key.
        unknown: Numbers of ended trials whose recipe stays open.
        lost: Trials of this driver that nobody could carry out; they are tried again on resume.
    """

    def __init__(
        self,
        bounded_history: BoundedTrialHistory,
        budget: int,
        callbacks: Callback,
        drivers: DriverGroup | None,
        key_of: Callable[[Mapping[str, Any]], str],
    ) -> None:
        self._bounded_history, self._budget, self._callbacks, self._drivers = (
            bounded_history,
            budget,
            callbacks,
            drivers,
        )
        self._key_of = key_of
        self._ended = self.lost = 0
        self._sampled: set[str] = set()
        self.known: dict[str, FrozenTrial] = {}
        self.unknown: set[int] = set()

    def study(self, whole: optuna.Study) -> optuna.Study:
        """The study as its sampler is to see it."""
        return optuna.load_study(study_name=whole.study_name, storage=self._bounded_history, sampler=whole.sampler)

    def learn(self) -> None:
        """Read which trials have ended since the last look, whoever ran them; take over those of a dead driver."""
        if self._drivers is not None:
            self._drivers.reclaim_trials(list(self._bounded_history.running.values()), self._callbacks)
        for trial in self._bounded_history.refresh():
            if INTERRUPTED in trial.user_attrs:
                continue
            self._sampled.add(content_key(trial.params))
            if REFUSED not in trial.user_attrs:
                self._ended += 1
                # By its recipe, not by its note: another version may have made another key of it.
                if trial.number not in self.unknown and (key := self._key_of(trial.user_attrs)):
                    self.known.setdefault(key, trial)

    def sampled(self, trial: Trial) -> bool:
        """Whether a trial that has ended had the same parameters, to the last of them."""
        return content_key(trial.params) in self._sampled

    def running(self, own: set[int]) -> set[int]:
        """Numbers of the running trials that count, those of this driver among them."""
        theirs = self._bounded_history.running.values() if self._drivers is not None else ()
        return own | {trial.number for trial in theirs if DRIVER in trial.user_attrs}

    def left(self, own: set[int]) -> int:
        """Trials still to start."""
        return max(0, self._budget - self._ended - self.lost - len(self.running(own)))

    def open(self, own: set[int]) -> bool:
        """Whether there is anything to start, or may be where another driver loses a trial."""
        return self.left(own) > 0 or (self._drivers is not None and self._ended < self._budget)

    def objection(self, trial: Trial, key: str) -> str:
        """Why other drivers' trials leave no room for this one; empty where they do.

        Args:
            trial: Just asked for.
            key: Its recipe's.
        """
        if self._drivers is None:
            return ""
        trial.set_user_attr("key", key)
        trial.set_user_attr(DRIVER, self._drivers.name)
        self.learn()
        frozen = self._bounded_history.get_trial(trial._trial_id)
        others = [other for other in self._bounded_history.running.values() if other.number != trial.number]
        return self._drivers.objection(frozen, others, self._budget - self._ended, known=key in self.known)
