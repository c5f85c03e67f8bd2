"""Queueing: what a driver that takes up a study finds open there is closed, and what must still be tried is queued.

Called by the study before its searcher asks for the first trial, and where a driver leaves.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from mtl_search.recipe import Recipe
from mtl_search.results.trial_record import INTERRUPTED, TrialRecord
from mtl_search.search.callbacks import Callback, RunStarted, TrialEnded, TrialRun
from mtl_search.search.proposals import Proposals, key_of
from mtl_search.space.search_space import Reference

DRIVER = "driver"
"""User attribute of a trial: whose it is, where several drivers run a study."""


def close_trial(study: optuna.Study, trial: FrozenTrial, reason: str, callbacks: Callback) -> None:
    """End a trial that could not end itself, to be tried again on resume."""
    study._storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
    study._storage.set_trial_user_attr(trial._trial_id, "reason", reason)
    record = TrialRecord.of(study.get_trials(deepcopy=False)[trial.number], TrialState.FAIL)
    if record.recipe is not None:  # of one just asked for nobody has heard
        callbacks.on_run(TrialEnded(record))
    study.tell(trial.number, state=TrialState.FAIL)


def close_running(study: optuna.Study, reason: str, callbacks: Callback, driver: str = "") -> None:
    """End every trial that the storage holds as running; none is, where a driver takes up a study or leaves it.

    Where several drivers run the study, one closes its own, and queues them again for the others.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if driver and trial.user_attrs.get(DRIVER) != driver:
            continue
        if "recipe" in trial.user_attrs:  # nobody may have heard of it yet
            recipe = Recipe.from_dict(trial.user_attrs["recipe"])
            callbacks.on_run(RunStarted(TrialRun(trial.number), recipe))
        close_trial(study, trial, reason, callbacks)
        if driver and "recipe" in trial.user_attrs:
            requeue_trial(study, trial)


def prepare_study(
    study: optuna.Study,
    references: Sequence[Reference],
    callbacks: Callback,
    *,
    alone: bool = True,
    proposals: Proposals | None = None,
) -> None:
    """Queue what a study must try: reference recipes that it does not know, the interrupted recipes of an old one.

    Args:
        study: As its storage holds it.
        references: Recipes to try first.
        callbacks: Are told of what was left running.
        alone: Whether no other driver runs the study: what runs there was left by one that died.
        proposals: Give recipes their canonical form; None to leave them as they are.
    """
    trials = study.get_trials(deepcopy=False)
    known = {(key_of if proposals is None else proposals.key_of)(trial.user_attrs) for trial in trials}
    for reference in references:
        recipe = reference.recipe if proposals is None else proposals.canonical(reference.recipe)
        if recipe.key not in known:
            known.add(recipe.key)
            _enqueue(study, recipe, reference.params, {}, proposals)
    if alone:
        close_running(study, "the driver ended before the trial did", callbacks)
    retried = {trial.user_attrs["retry_of"] for trial in trials if "retry_of" in trial.user_attrs}
    for trial in study.get_trials(deepcopy=False):
        if INTERRUPTED in trial.user_attrs and trial.number not in retried:
            requeue_trial(study, trial, proposals)


def requeue_trial(study: optuna.Study, trial: FrozenTrial, proposals: Proposals | None = None) -> None:
    """Queue an interrupted trial's recipe.

    Args:
        study: As its storage holds it.
        trial: Has ended.
        proposals: Say how the space gives the recipe now, where an earlier version may have sampled it; None to take
            the trial's parameters as they are.
    """
    # Where the driver ended while the trial was asked for, some of what was queued is not among its parameters yet.
    params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    retry = {"retry_of": trial.number}
    if "recipe" in trial.user_attrs:
        inside = None if trial.user_attrs.get("outside") else params
        _enqueue(study, Recipe.from_dict(trial.user_attrs["recipe"]), inside, retry, proposals)
    else:
        study.enqueue_trial(params, user_attrs=retry)


def _enqueue(
    study: optuna.Study,
    recipe: Recipe,
    params: Mapping[str, Any] | None,
    notes: Mapping[str, Any],
    proposals: Proposals | None,
) -> None:
    """Queue a recipe: by its parameters, or as it is where the space does not hold it."""
    if proposals is not None and params is not None:
        params = proposals.params_of(recipe, params)
    outside = {"outside": True} if params is None else {}
    study.enqueue_trial(dict(params or {}), user_attrs={"recipe": recipe.to_dict(), **outside, **notes})
