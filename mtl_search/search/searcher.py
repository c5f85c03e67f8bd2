"""The searcher: Ray Tune asks it for recipes, Optuna answers, and every trial ends in Optuna in its true state.

COMPLETE with the best epoch's score, PRUNED with the value at its rung, FAIL with a reason. The Optuna study lives in
persistent storage and is the one record of the search: resuming, extending and reporting read it.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.search import Searcher

from mtl_search.execution.jobs import JobState, Update
from mtl_search.recipe import Recipe
from mtl_search.search.drivers import Drivers
from mtl_search.search.horizon import Horizon
from mtl_search.search.notes import note_duplicate, note_result
from mtl_search.search.proposals import Proposals
from mtl_search.search.queueing import close_running, close_trial, queue_again
from mtl_search.search.record import REFUSED, TrialRecord
from mtl_search.search.standing import Live, Standing
from mtl_search.search.trainable import NEWS, START
from mtl_search.search.watchers import Watcher
from mtl_search.space import SearchSpace
from mtl_search.training.reports import StageResult

ANY_NUMBER = 1_000_000
"""More trials or groups than there ever are, where nothing limits them."""
_LOOK_SECONDS = 1.0
"""Between two looks at what other drivers do, where there is nothing else to do."""
MOST_DEATHS = 100
"""Of processes that follow a trial; more must be a mistake of ours."""
_MOST_REFUSED = 1000
"""After so many in a row nothing else is likely to come."""
_log = logging.getLogger(__name__)


class OptunaSearcher(Searcher):
    """Connects Tune's trials with an Optuna study.

    Args:
        study: Maximises; in persistent storage.
        space: What is sampled, with or without the canonical form of its recipes.
        budget: Trials in all, those of earlier runs and duplicates included, interrupted ones not.
        submit: Submits the jobs that a recipe stands for; returns the key of its joint stage's.
        release: Called with that key when the trial has ended, whatever the reason.
        watchers: Hear of every trial.
        refuse: Says why a recipe's parts make no sense together; empty if they do.
        values: What of a finished job's result Optuna maximises.
        in_time: Whether there is time for another trial.
        groups: Worker groups that there are now: no more trials run at once.
        drivers: This driver among others on the study; None where it is alone.
        start_of: What joint training of a recipe starts from, in a word; stoppers compare trials of one word. Empty
            where all trials compare.

    Attributes:
        trouble: Why an epoch or a trial's end could not be written; None while all is well.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace | Proposals,
        budget: int,
        submit: Callable[[Recipe], str],
        release: Callable[[str], None],
        watchers: list[Watcher],
        refuse: Callable[[Recipe], str] = lambda _: "",
        values: Callable[[StageResult], list[float]] = lambda result: [result.best_score],
        in_time: Callable[[], bool] = lambda: True,
        groups: Callable[[], int] = lambda: ANY_NUMBER,
        drivers: Drivers | None = None,
        start_of: Callable[[Recipe], str] = lambda _: "",
    ) -> None:
        super().__init__(metric="objective", mode="max")
        self._whole, self._start_of = study, start_of
        self._proposals = space if isinstance(space, Proposals) else Proposals(space)
        self._drivers, self._watchers = drivers, watchers
        horizon = Horizon(study._storage, study._study_id)
        self._standing = Standing(horizon, budget, watchers, drivers, self._proposals.key_of)
        self._study = self._standing.study(study)
        self._submit, self._release, self._refuse = submit, release, refuse
        self._values, self._in_time, self._groups = values, in_time, groups
        self._several = len(study.directions) > 1
        self._live: dict[str, Live] = {}
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

    def suggest(self, trial_id: str) -> dict[str, Any] | Any:
        """The next recipe's jobs; recipes tried before get their known end at once and are passed over.

        None for now where every group has a trial already, or where there is something to start only if another driver
        loses a trial.
        """
        if len(self._live) >= max(1, self._groups()) or time.monotonic() < self._not_before:
            return None
        for _ in range(_MOST_REFUSED):
            self._standing.learn()
            if not self.left or not self._in_time():
                break
            trial = self._study.ask()
            sampled = self._recipe(trial)
            recipe = self._proposals.canonical(sampled)
            if reason := self._refuse(sampled) or self._standing.objection(trial, recipe.key):
                trial.set_user_attr(REFUSED, reason)
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            trial.set_user_attr("recipe", recipe.to_dict())
            trial.set_user_attr("key", recipe.key)
            if earlier := self._standing.known.get(recipe.key):
                self._repeat(trial, recipe, earlier)
                continue
            key = self._submit(recipe)
            self._live[trial_id] = Live(trial, recipe, key, time.monotonic())
            for watcher in self._watchers:
                watcher.trial_started(trial.number, recipe)
            start = self._start_of(recipe)
            return {"job": key, START: start} if start else {"job": key}
        if self._drivers is not None and self.open and self._in_time():
            self._not_before = time.monotonic() + _LOOK_SECONDS
            return None
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report an epoch to Optuna; epochs told a second time after a restart are passed over."""
        with self._noted():
            self._hear(trial_id, result)

    def _hear(self, trial_id: str, result: dict[str, Any]) -> None:
        live, news = self._live.get(trial_id), result.get(NEWS)
        report = news.reports[-1] if news is not None and news.reports else None
        if live is None or report is None or report.epoch <= live.epoch:
            return
        live.epoch = report.epoch
        live.best = report.best_score
        if not self._several:  # Optuna takes no reports there, and nothing stops a trial early
            with suppress(UpdateFinishedTrialError):  # taken over, see the end
                live.trial.report(live.best, live.epoch)
        for watcher in self._watchers:
            watcher.trial_reported(live.trial.number, report)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how the trial ended."""
        with self._noted():
            self._close(trial_id, result or {}, error)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Tune would take what goes wrong here for the trial's fault, and run the trial again."""
        try:
            yield
        except Exception as error:
            self.trouble = self.trouble or error
            raise

    def _close(self, trial_id: str, result: dict[str, Any], error: bool) -> None:
        self._hear(trial_id, result)
        live = self._live.get(trial_id)
        if live is None:
            return
        try:
            self._tell(live, result.get(NEWS) or Update(), error)
        except UpdateFinishedTrialError:
            _log.warning("trial %d was taken over: nothing was heard of this driver for long", live.trial.number)
        # Only now: who goes on with the study finds how the job ended, wherever telling of it fails.
        del self._live[trial_id]
        if all(other.key != live.key for other in self._live.values()):
            self._release(live.key)
        self._standing.learn()

    def _tell(self, live: Live, news: Update, error: bool) -> None:
        outcome = news.result
        live.trial.set_user_attr("seconds", time.monotonic() - live.started)
        if error and self._deaths < MOST_DEATHS:  # it trained nothing: whatever killed it, the recipe did not
            self._deaths += 1
            close_trial(self._whole, self._frozen(live.trial), "its own process died", self._watchers)
            queue_again(self._whole, self._frozen(live.trial))
        elif error:
            self._standing.unknown.add(live.trial.number)
            self._end(live.trial, TrialState.FAIL, reason="the trial's own process died again and again")
        elif news.state is JobState.DONE and outcome is not None:
            note_result(live.trial, outcome, live.key)
            self._end(live.trial, TrialState.COMPLETE, self._values(outcome))
        elif news.state is JobState.RUNNING:
            live.trial.set_user_attr("job", live.key)
            self._end(live.trial, TrialState.PRUNED, [] if live.best is None else [live.best])
        elif news.state is JobState.CANCELLED:  # not by Tune: nobody is left who could carry it out
            self._standing.lost += 1
            close_trial(self._whole, self._frozen(live.trial), news.reason, self._watchers)
        else:
            self._end(live.trial, TrialState.FAIL, reason=news.reason or "the trial ended without a result")

    def interrupt(self) -> None:
        """End the trials that still run, to be tried again on resume."""
        self._live.clear()
        close_running(self._whole, "interrupted", self._watchers, "" if self._drivers is None else self._drivers.name)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher for a restore that this project does not use: only what needs no process."""
        return {"_metric": self._metric, "_mode": self._mode}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is in Optuna's storage."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore, see ``save``."""

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
            note_duplicate(trial, earlier)
            values = list(earlier.values or []) if earlier.state is TrialState.COMPLETE else None
            self._study.tell(trial, values, state=earlier.state)
            return
        for watcher in self._watchers:
            watcher.trial_started(trial.number, recipe)
        note_duplicate(trial, earlier)
        self._end(trial, earlier.state, earlier.values or [], earlier.user_attrs.get("reason", ""))

    def _end(self, trial: Trial, state: TrialState, values: Sequence[float] = (), reason: str = "") -> None:
        """Close a trial. Watchers first: one that Optuna calls finished is closed everywhere, wherever a kill falls."""
        if reason:
            trial.set_user_attr("reason", reason)
        record = TrialRecord.of(self._frozen(trial), state, values[0] if len(values) == 1 else None)
        for watcher in self._watchers:
            watcher.trial_ended(record)
        self._study.tell(trial, list(values) if state is TrialState.COMPLETE else None, state=state)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self._study._storage.get_trial(trial._trial_id)
