"""What every sampler promises, over the family's registry."""

import math
from typing import Any

import optuna
import pytest
from optuna.trial import Trial

from mtl_search.search.samplers import ONE_OBJECTIVE, SAMPLERS

over_variants = pytest.mark.parametrize("name", SAMPLERS)
SMALL: dict[str, dict[str, Any]] = {"nsga2": {"population": 4}, "random": {}}
"""Parameters with which a variant learns from few trials; others learn after ``startup``."""
TRIALS = 14


def sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    built: optuna.samplers.BaseSampler = SAMPLERS[name](**SMALL.get(name, {"startup": 4})).build(seed)
    return built


def ask(trial: Trial) -> tuple[float, float, int]:
    return (
        trial.suggest_float("lr", 1e-4, 1e-1, log=True),
        trial.suggest_float("ratio", -1.0, 1.0),
        trial.suggest_int("epochs", 1, 9),
    )


def score(params: tuple[float, float, int]) -> float:
    lr, ratio, epochs = params
    return -((math.log10(lr) + 2) ** 2) - ratio**2 - (epochs - 5) ** 2 / 20


def proposals(name: str, seed: int, sign: float = 1.0, trials: int = TRIALS) -> list[tuple[float, float, int]]:
    study = optuna.create_study(direction="maximize", sampler=sampler(name, seed))
    study.optimize(lambda trial: sign * score(ask(trial)), n_trials=trials)
    return [tuple(trial.params.values()) for trial in study.trials]  # type: ignore[misc]


@over_variants
def test_proposals_depend_on_the_seed_alone(name: str) -> None:
    first = proposals(name, 3)
    assert first == proposals(name, 3)
    assert first != proposals(name, 4)


@over_variants
def test_no_proposal_leaves_the_space(name: str) -> None:
    for lr, ratio, epochs in proposals(name, 5):
        assert 1e-4 <= lr <= 1e-1
        assert -1 <= ratio <= 1
        assert epochs in range(1, 10)


@over_variants
def test_results_change_what_comes_after_the_start_unless_draws_are_independent(name: str) -> None:
    up, down = proposals(name, 6), proposals(name, 6, sign=-1.0)
    assert up[:4] == down[:4]
    assert (up != down) == (name != "random")


@over_variants
def test_failed_and_stopped_trials_do_not_end_a_search(name: str) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler(name, 7))
    for number in range(TRIALS):
        trial = study.ask()
        value = score(ask(trial))
        if number % 5 == 1:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif number % 5 == 2:
            trial.report(value, 1)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, value)
    assert len(study.trials) == TRIALS


@over_variants
def test_several_objectives_are_sampled_where_the_family_says_so(name: str) -> None:
    study = optuna.create_study(directions=["maximize", "maximize"], sampler=sampler(name, 8))

    def both(trial: Trial) -> tuple[float, float]:
        lr, ratio, _ = ask(trial)
        return lr, ratio

    if SAMPLERS[name] in ONE_OBJECTIVE:
        with pytest.raises(ValueError, match="multi-objective"):
            study.optimize(both, n_trials=TRIALS)
    else:
        study.optimize(both, n_trials=TRIALS)
        assert study.best_trials
