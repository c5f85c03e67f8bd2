"""Importance finds the parameter that was planted, for the objective and for each task; few trials are told so."""

import math
from collections.abc import Callable

import optuna
import pytest
from optuna.trial import FrozenTrial, Trial, TrialState

from mtl_search.analysis.importance import LEAST, importance, partial_dependence


def trials_of(objective: Callable[[Trial], float], count: int = 80) -> list[FrozenTrial]:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=count)
    return study.get_trials(deepcopy=False)


def planted(trial: Trial) -> float:
    """The learning rate decides the objective, the depth the second task; ``under`` exists in one branch."""
    lr, depth = trial.suggest_float("lr", 1e-4, 1e-1, log=True), trial.suggest_int("depth", 1, 4)
    kind = trial.suggest_categorical("kind", ("mean", "ties"))
    under = trial.suggest_float("kind.ties.density", 0.0, 1.0) if kind == "ties" else 0.0
    trial.set_user_attr("metrics", {"second": 10.0 * depth + 0.01 * under})
    return -((math.log10(lr) + 2) ** 2)


def value(trial: FrozenTrial) -> float | None:
    return trial.value


def test_the_planted_parameter_is_the_most_important_for_the_objective_and_another_for_a_task() -> None:
    trials = trials_of(planted)
    first = importance("objective", trials, value)
    assert next(iter(first.shares)) == "lr"
    assert first.shares["lr"] > 0.6
    assert sum(first.shares.values()) == pytest.approx(1)
    assert set(first.shares) == {"lr", "depth", "kind", "kind.ties.density"}, "of a branch too"
    second = importance("second", trials, lambda trial: trial.user_attrs["metrics"]["second"])
    assert next(iter(second.shares)) == "depth"
    assert importance("objective", trials, value) == first, "the same every time"


def test_too_few_or_equal_trials_are_told_in_words() -> None:
    few = importance("objective", trials_of(planted, LEAST - 1), value)
    assert (few.shares, few.reason) == ({}, "it takes 10 different complete trials, there are 9")
    same = importance("objective", trials_of(lambda trial: trial.suggest_float("lr", 0, 1) * 0), value)
    assert (same.shares, same.reason) == ({}, "all trials came to the same")
    assert importance("objective", [], value).shares == {}


def test_a_recipe_tried_twice_counts_once_and_failed_trials_not_at_all() -> None:
    trials = trials_of(planted, 12)
    again = [optuna.trial.create_trial(params=trials[0].params, distributions=trials[0].distributions, value=9.0)]
    failed = [optuna.trial.create_trial(state=TrialState.FAIL)]
    assert importance("objective", [*trials, *again, *failed], value) == importance("objective", trials, value)


def test_dependence_has_its_top_where_the_planted_optimum_is() -> None:
    found = partial_dependence("lr", trials_of(planted), value)
    assert found is not None
    top = max(zip(found.expected, found.values, strict=True))[1]
    assert 10**-2.4 < top < 10**-1.6
    assert found.log
    assert found.numeric
    assert list(found.values) == sorted(found.values)
    assert len(found.points) == 80


def test_dependence_of_choices_and_whole_numbers_names_them() -> None:
    trials = trials_of(planted)
    kind, depth = (partial_dependence(name, trials, value) for name in ("kind", "depth"))
    assert kind is not None
    assert depth is not None
    assert (kind.values, kind.numeric) == (("mean", "ties"), False)
    assert depth.values == (1, 2, 3, 4)


def test_a_parameter_of_a_branch_is_judged_by_the_trials_that_have_it() -> None:
    trials = trials_of(planted)
    found = partial_dependence("kind.ties.density", trials, value)
    assert found is not None
    assert len(found.points) == sum("kind.ties.density" in trial.params for trial in trials)
    assert partial_dependence("kind.ties.density", trials[:8], value) is None
    assert partial_dependence("nothing", trials, value) is None
