"""The searcher: it asks Optuna for recipes, has trials carried out, and ends each in Optuna in its true state.

Ray Tune drives it through ``tune_searcher``; a study in one process drives it itself (``local_runtime``).

COMPLETE with the best epoch's score, PRUNED with the value at its rung, FAIL with a reason. The Optuna study lives in
persistent storage and is the one record of the search: resuming, extending and reporting read it.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from mtl_search.errors import MtlSearchError, StudyError
from mtl_search.pool.jobs import JobState, Update
from mtl_search.recipe import Recipe
from mtl_search.results.trial_record import REFUSED, TrialRecord
from mtl_search.search.callbacks import Callback, EpochEnded, RunStarted, TrialEnded, TrialRun
from mtl_search.search.driver_group import DriverGroup
from mtl_search.search.proposals import Proposals
from mtl_search.search.requeue import close_running, close_trial, requeue_trial
from mtl_search.search.search_state import RunningTrial, SearchState
from mtl_search.search.trial_attributes import set_duplicate_attributes, set_result_attributes
from mtl_search.search.trial_runner import TrialRunner
from mtl_search.space.search_space import SearchSpace
from mtl_search.storage.reports import EpochReport
from mtl_search.study_store.bounded_history import BoundedTrialHistory

ANY_NUMBER = 1_000_000
"""More trials or groups than there ever are, where nothing limits them."""
_LOOK_SECONDS = 1.0
"""Between two looks at what other drivers do, where there is nothing else to do."""
MOST_DEATHS = 100
"""Of processes that follow a trial; more must be a mistake of ours."""
_MOST_REFUSED = 1000
"""After so many in a row nothing else is likely to come."""
_log = logging.getLogger(__name__)


class NoTrial(Enum):
    """Why there is no trial to start."""

    NOT_NOW = "not now"
    NEVER = "never"


@dataclass(frozen=True)
class StartedTrial:
    """A trial that was just started.

    Attributes:
        job: Key of its joint stage's job.
        start: What its joint training starts from, in a word; empty where all trials compare.
    """

    job: str
    start: str = ""


class OptunaSearcher:
    """Starts and ends the trials of an Optuna study. Whoever drives it calls each trial by a name of its own.

    Args:
        study: Maximises; in persistent storage.
        space: What is sampled, with or without the canonical form of its recipes.
        budget: Trials in all, those of earlier runs and duplicates included, interrupted ones not.
        runner: Carries out trials.
        callbacks: Are told of every trial.
        drivers: This driver among others on the study; None where it is alone.

    Attributes:
        trouble: Why an epoch or a trial's end could not be written; None while all is well.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace | Proposals,
        budget: int,
        runner: TrialRunner,
        callbacks: Callback,
        drivers: DriverGroup | None = None,
    ) -> None:
        self._whole, self._runner = study, runner
        self._proposals = space if isinstance(space, Proposals) else Proposals(space)
        self._drivers, self._callbacks = drivers, callbacks
        bounded_history = BoundedTrialHistory(study._storage, study._study_id)
        self._standing = SearchState(bounded_history, budget, callbacks, drivers, self._proposals.key_of)
        self._study = self._standing.study(study)
        self._several = len(study.directions) > 1
        self._live: dict[str, RunningTrial] = {}
        self._not_before, self._deaths = 0.0, 0
        self.trouble: Exception | None = None
        self._standing.learn()

    @property
    def open(self) -> bool:
        """Whether there is anything to start, or may be where another driver loses a trial."""
        return self._standing.open(self._own)

    @property
    def left(self) -> int:
        """Trials still to start."""
        return self._standing.left(self._own)

    @property
    def _own(self) -> set[int]:
        return {live.trial.number for live in self._live.values()}

    def await_others(self) -> None:
        """Wait until the trials of all other drivers have ended."""
        while self._standing.running(self._own):
            time.sleep(_LOOK_SECONDS)
            self._standing.learn()

    def start_trial(self, name: str) -> StartedTrial | NoTrial:
        """Start the next trial; recipes tried before get their known end at once and are passed over.

        Args:
            name: What the caller will call the trial.

        Returns:
            The trial, or why there is none: not now where every group has a trial already, or where there is something
            to start only if another driver loses a trial.
        """
        if len(self._live) >= max(1, self._runner.size) or time.monotonic() < self._not_before:
            return NoTrial.NOT_NOW
        for _ in range(_MOST_REFUSED):
            self._standing.learn()
            if not self.left or not self._runner.has_time():
                break
            trial = self._study.ask()
            sampled = self._recipe(trial)
            recipe = self._proposals.canonical(sampled)
            if reason := self._runner.refusal(sampled) or self._standing.objection(trial, recipe.key):
                trial.set_user_attr(REFUSED, reason)
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            trial.set_user_attr("recipe", recipe.to_dict())
            trial.set_user_attr("key", recipe.key)
            if earlier := self._standing.known.get(recipe.key):
                self._repeat(trial, recipe, earlier)
                continue
            key = self._runner.submit(recipe)
            self._live[name] = RunningTrial(trial, recipe, key, time.monotonic())
            self._callbacks.on_run(RunStarted(TrialRun(trial.number), recipe))
            return StartedTrial(key, self._runner.start_of(recipe))
        if self._drivers is not None and self.open and self._runner.has_time():
            self._not_before = time.monotonic() + _LOOK_SECONDS
            return NoTrial.NOT_NOW
        return NoTrial.NEVER

    def report(self, name: str, report: EpochReport) -> None:
        """Report an epoch of a trial to Optuna; epochs told a second time after a restart are passed over."""
        with self._noted():
            self._on_report(name, report)

    def _on_report(self, name: str, report: EpochReport) -> None:
        live = self._live.get(name)
        if live is None or report.epoch <= live.epoch:
            return
        live.epoch = report.epoch
        live.best = report.best_score
        if not self._several:  # Optuna takes no reports there, and nothing stops a trial early
            with suppress(UpdateFinishedTrialError):  # taken over, see the end
                live.trial.report(live.best, live.epoch)
        self._callbacks.on_run(EpochEnded(TrialRun(live.trial.number), report))

    def end(self, name: str, news: Update | None = None, *, error: bool = False) -> None:
        """Tell Optuna how a trial ended.

        Args:
            name: The trial.
            news: The last news of its job; the job still runs where the stopper ended the trial.
            error: Whether the trial's own process died.
        """
        with self._noted():
            self._close(name, news or Update(), error)

    def check(self) -> None:
        """See that the story of every trial could be written.

        Raises:
            MtlSearchError: One could not.
        """
        if isinstance(self.trouble, MtlSearchError):
            raise self.trouble
        if self.trouble is not None:
            raise StudyError(
                f"what became of a trial cannot be written ({type(self.trouble).__name__}: {self.trouble}); nothing "
                "finished is lost, go on with --resume"
            ) from self.trouble

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Keep what goes wrong: Tune would take it for the trial's fault, and run the trial again."""
        try:
            yield
        except Exception as error:
            self.trouble = self.trouble or error
            raise

    def _close(self, name: str, news: Update, error: bool) -> None:
        for report in news.reports[-1:]:
            self._on_report(name, report)
        live = self._live.get(name)
        if live is None:
            return
        try:
            self._tell(live, news, error)
        except UpdateFinishedTrialError:
            _log.warning("trial %d was taken over: nothing was heard of this driver for long", live.trial.number)
        # Only now: who goes on with the study finds how the job ended, wherever telling of it fails.
        del self._live[name]
        if all(other.key != live.key for other in self._live.values()):
            self._runner.release(live.key)
        self._standing.learn()

    def _tell(self, live: RunningTrial, news: Update, error: bool) -> None:
        outcome = news.result
        live.trial.set_user_attr("seconds", time.monotonic() - live.started)
        if error and self._deaths < MOST_DEATHS:  # it trained nothing: whatever killed it, the recipe did not
            self._deaths += 1
            close_trial(self._whole, self._frozen(live.trial), "its own process died", self._callbacks)
            requeue_trial(self._whole, self._frozen(live.trial))
        elif error:
            self._standing.unknown.add(live.trial.number)
            self._end(live.trial, TrialState.FAIL, reason="the trial's own process died again and again")
        elif news.state is JobState.DONE and outcome is not None:
            set_result_attributes(live.trial, outcome, live.key)
            self._end(live.trial, TrialState.COMPLETE, self._runner.values(outcome))
        elif news.state is JobState.RUNNING:
            live.trial.set_user_attr("job", live.key)
            self._end(live.trial, TrialState.PRUNED, [] if live.best is None else [live.best])
        elif news.state is JobState.CANCELLED:  # not by Tune: nobody is left who could carry it out
            self._standing.lost += 1
            close_trial(self._whole, self._frozen(live.trial), news.reason, self._callbacks)
        else:
            self._end(live.trial, TrialState.FAIL, reason=news.reason or "the trial ended without a result")

    def interrupt(self) -> None:
        """End the trials that still run, to be tried again on resume."""
        self._live.clear()
        close_running(self._whole, "interrupted", self._callbacks, "" if self._drivers is None else self._drivers.name)

    def _recipe(self, trial: Trial) -> Recipe:
        """The trial's recipe: from the space, or as it was queued where the space does not hold it."""
        if trial.user_attrs.get("outside"):
            return Recipe.from_dict(trial.user_attrs["recipe"])
        return self._proposals.suggest(trial)

    def _repeat(self, trial: Trial, recipe: Recipe, earlier: FrozenTrial) -> None:
        """End a trial as the finished one with the same recipe ended.

        Where it was sampled otherwise, it costs nothing of the budget and nobody sees it but the sampler, which learns
        that the two come to the same.
        """
        if self._proposals.spares_twins and not self._standing.sampled(trial):
            trial.set_user_attr(REFUSED, f"the same recipe as trial {earlier.number}")
            set_duplicate_attributes(trial, earlier)
            values = list(earlier.values or []) if earlier.state is TrialState.COMPLETE else None
            self._study.tell(trial, values, state=earlier.state)
            return
        self._callbacks.on_run(RunStarted(TrialRun(trial.number), recipe))
        set_duplicate_attributes(trial, earlier)
        self._end(trial, earlier.state, earlier.values or [], earlier.user_attrs.get("reason", ""))

    def _end(self, trial: Trial, state: TrialState, values: Sequence[float] = (), reason: str = "") -> None:
        """Close a trial, first for the callbacks: what Optuna calls finished is closed everywhere, even if killed."""
        if reason:
            trial.set_user_attr("reason", reason)
        record = TrialRecord.of(self._frozen(trial), state, values[0] if len(values) == 1 else None)
        self._callbacks.on_run(TrialEnded(record))
        self._study.tell(trial, list(values) if state is TrialState.COMPLETE else None, state=state)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self._study._storage.get_trial(trial._trial_id)
