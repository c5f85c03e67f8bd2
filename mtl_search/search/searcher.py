"""The searcher: Ray Tune asks it for recipes, Optuna answers, and every trial ends in Optuna in its true state.

COMPLETE with the best epoch's score, PRUNED with the value at its rung, FAIL with a reason. The Optuna study lives in
persistent storage and is the one record of the search: resuming, extending and reporting read it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.search import Searcher

from mtl_search.execution.jobs import JobState, Update
from mtl_search.recipe import Recipe, content_key
from mtl_search.search.record import INTERRUPTED, REFUSED, TrialRecord
from mtl_search.search.trainable import NEWS
from mtl_search.search.watchers import Watcher
from mtl_search.space import Reference, SearchSpace

_ANY_NUMBER = 1_000_000
_MOST_REFUSED = 1000
"""After so many in a row nothing else is likely to come."""
_MEASURED = (
    "metrics",
    "steps",
    "best_epoch",
    "parameters",
    "multiply_adds",
    "epoch_seconds",
    "worker_seconds",
    "peak_mib",
)
_COPIED = {*_MEASURED, "job", "score"}
"""What a trial takes over from a finished one with the same recipe."""


@dataclass
class _Live:
    trial: Trial
    recipe: Recipe
    key: str
    started: float
    epoch: int = -1
    best: float | None = None


class OptunaSearcher(Searcher):
    """Connects Tune's trials with an Optuna study.

    Args:
        study: Maximises; in persistent storage.
        space: What is sampled.
        budget: Trials in all, those of earlier runs and duplicates included, interrupted ones not.
        submit: Submits the jobs that a recipe stands for; returns the key of its joint stage's.
        release: Called with that key when the trial has ended, whatever the reason.
        watchers: Hear of every trial.
        refuse: Says why a recipe's parts make no sense together; empty if they do.
        values: What of a finished job's result Optuna maximises.
        in_time: Whether there is time for another trial.
        groups: Worker groups that there are now: no more trials run at once.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        budget: int,
        submit: Callable[[Recipe], str],
        release: Callable[[str], None],
        watchers: list[Watcher],
        refuse: Callable[[Recipe], str] = lambda _: "",
        values: Callable[[dict[str, Any]], list[float]] = lambda result: [result["best_score"]],
        in_time: Callable[[], bool] = lambda: True,
        groups: Callable[[], int] = lambda: _ANY_NUMBER,
    ) -> None:
        super().__init__(metric="objective", mode="max")
        self._study, self._space = study, space
        self._submit, self._release = submit, release
        self._watchers, self._refuse = watchers, refuse
        self._values, self._in_time, self._groups = values, in_time, groups
        self._several = len(study.directions) > 1
        self._live: dict[str, _Live] = {}
        past = study.get_trials(deepcopy=False)
        counted = [t for t in past if t.state.is_finished() and not {INTERRUPTED, REFUSED} & t.user_attrs.keys()]
        self._left = budget - len(counted)
        self._ended: dict[str, FrozenTrial] = {t.user_attrs["key"]: t for t in counted if "key" in t.user_attrs}

    @property
    def left(self) -> int:
        """Trials still to start."""
        return max(0, self._left)

    def suggest(self, trial_id: str) -> dict[str, Any] | Any:
        """The next recipe's jobs, none for now where every group has one already.

        Recipes tried before get their known end at once and are passed over.
        """
        if len(self._live) >= max(1, self._groups()):
            return None
        refused = 0
        while self._left > 0 and refused < _MOST_REFUSED and self._in_time():
            trial = self._study.ask()
            recipe = self._recipe(trial)
            if reason := self._refuse(recipe):
                refused += 1
                trial.set_user_attr(REFUSED, reason)
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            self._left -= 1
            trial.set_user_attr("recipe", recipe.to_dict())
            trial.set_user_attr("key", recipe.key)
            if recipe.key in self._ended:
                self._repeat(trial, recipe, self._ended[recipe.key])
                continue
            key = self._submit(recipe)
            self._live[trial_id] = _Live(trial, recipe, key, time.time())
            for watcher in self._watchers:
                watcher.trial_started(trial.number, recipe)
            return {"job": key}
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Report an epoch to Optuna; epochs told a second time after a restart are passed over."""
        live, news = self._live.get(trial_id), result.get(NEWS)
        report = news.reports[-1] if news is not None and news.reports else None
        if live is None or report is None or report["epoch"] <= live.epoch:
            return
        live.epoch = report["epoch"]
        live.best = report["best_score"]
        if not self._several:  # Optuna takes no reports there, and nothing stops a trial early
            live.trial.report(live.best, live.epoch)
        for watcher in self._watchers:
            watcher.trial_reported(live.trial.number, report)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how the trial ended."""
        self.on_trial_result(trial_id, result or {})
        live = self._live.get(trial_id)
        if live is None:
            return
        if all(other is live or other.key != live.key for other in self._live.values()):
            self._release(live.key)
        news: Update = (result or {}).get(NEWS) or Update()
        outcome = news.result
        live.trial.set_user_attr("seconds", time.time() - live.started)
        if error:
            self._end(live.trial, TrialState.FAIL, reason="the trial's own process died again and again")
        elif news.state is JobState.DONE and outcome is not None:
            for name in _MEASURED:
                if name in outcome:  # a result kept by an earlier version knows less
                    live.trial.set_user_attr(name, outcome[name])
            live.trial.set_user_attr("job", live.key)
            live.trial.set_user_attr("score", outcome["best_score"])
            self._end(live.trial, TrialState.COMPLETE, self._values(outcome))
        elif news.state is JobState.RUNNING:
            live.trial.set_user_attr("job", live.key)
            self._end(live.trial, TrialState.PRUNED, [] if live.best is None else [live.best])
        elif news.state is JobState.CANCELLED:  # not by Tune: nobody is left who could carry it out
            close_trial(self._study, self._frozen(live.trial), news.reason, self._watchers)
        else:
            self._end(live.trial, TrialState.FAIL, reason=news.reason or "the trial ended without a result")
        if not error and news.state is not JobState.CANCELLED:
            self._ended.setdefault(live.recipe.key, self._frozen(live.trial))
        del self._live[trial_id]

    def interrupt(self) -> None:
        """End the trials that still run, to be tried again on resume."""
        self._live.clear()
        close_running(self._study, "interrupted", self._watchers)

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
        return self._space.suggest(trial)

    def _repeat(self, trial: Trial, recipe: Recipe, earlier: FrozenTrial) -> None:
        """End a trial as the finished one with the same recipe ended."""
        for watcher in self._watchers:
            watcher.trial_started(trial.number, recipe)
        for name in _COPIED & earlier.user_attrs.keys():
            trial.set_user_attr(name, earlier.user_attrs[name])
        trial.set_user_attr("duplicate_of", earlier.number)
        for step, value in earlier.intermediate_values.items():
            trial.report(value, step)
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
        return self._study.get_trials(deepcopy=False)[trial.number]


def close_trial(study: optuna.Study, trial: FrozenTrial, reason: str, watchers: Sequence[Watcher]) -> None:
    """End a trial that could not end itself, to be tried again on resume."""
    study._storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
    study._storage.set_trial_user_attr(trial._trial_id, "reason", reason)
    record = TrialRecord.of(study.get_trials(deepcopy=False)[trial.number], TrialState.FAIL)
    for watcher in watchers:
        watcher.trial_ended(record)
    study.tell(trial.number, state=TrialState.FAIL)


def close_running(study: optuna.Study, reason: str, watchers: Sequence[Watcher]) -> None:
    """End every trial that the storage holds as running; none is, where a driver takes up a study or leaves it."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if "recipe" in trial.user_attrs:  # its watchers may not have heard of it yet
            for watcher in watchers:
                watcher.trial_started(trial.number, Recipe.from_dict(trial.user_attrs["recipe"]))
        close_trial(study, trial, reason, watchers)


def prepare_study(study: optuna.Study, references: Sequence[Reference], watchers: Sequence[Watcher] = ()) -> None:
    """Queue what a study must try: reference recipes that it does not know, the interrupted recipes of an old one."""
    trials = study.get_trials(deepcopy=False)
    known = {content_key(trial.user_attrs["recipe"]) for trial in trials if "recipe" in trial.user_attrs}
    for reference in {reference.recipe.key: reference for reference in references}.values():
        if reference.recipe.key not in known:
            attributes: dict[str, Any] = {"recipe": reference.recipe.to_dict()}
            if reference.params is None:
                attributes["outside"] = True
            study.enqueue_trial(reference.params or {}, user_attrs=attributes)
    close_running(study, "the driver ended before the trial did", watchers)
    retried = {trial.user_attrs["retry_of"] for trial in trials if "retry_of" in trial.user_attrs}
    for trial in study.get_trials(deepcopy=False):
        if INTERRUPTED in trial.user_attrs and trial.number not in retried:
            kept: dict[str, Any] = {
                name: trial.user_attrs[name] for name in ("recipe", "outside") if name in trial.user_attrs
            }
            study.enqueue_trial(trial.params, user_attrs={**kept, "retry_of": trial.number})
