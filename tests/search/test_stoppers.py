"""What the stoppers say of a trial's epochs, beside what Tune's own tests hold; learning curves are made up."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import ray
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from searched_spaces import Listener, space_of

from mtl_search.execution.jobs import JobState, Update
from mtl_search.recipe import Component, Recipe
from mtl_search.search.queueing import prepare_study
from mtl_search.search.record import TrialRecord
from mtl_search.search.searcher import OptunaSearcher
from mtl_search.search.stoppers import STOPPERS
from mtl_search.search.trainable import EPOCH, METRIC, START
from mtl_search.search.tuning import tuner_of
from mtl_search.training.reports import EpochReport, StageResult
from mtl_search.variants import build

EPOCHS = 9
ASHA = Component("asha", {"grace": 1, "reduction": 3.0})
MEDIAN = Component("median", {"grace": 1, "least": 3})


@pytest.mark.parametrize("stopper", list(STOPPERS))
@pytest.mark.parametrize("other", [Trial.PENDING, Trial.PAUSED])
def test_no_trial_waits_for_one_that_is_still_to_start(stopper: str, other: str) -> None:
    """Tune would pause it, and who is paused is never woken: its worker group takes no other trial meanwhile."""
    scheduler = build(STOPPERS, Component(stopper)).build(9)
    trial, late = (Trial("any", stub=True) for _ in range(2))
    late.status = other
    tune = SimpleNamespace(get_live_trials=lambda: [trial, late], get_trials=lambda: [trial, late])
    scheduler.on_trial_add(tune, trial)
    said = {scheduler.on_trial_result(tune, trial, {EPOCH: epoch, METRIC: 0.5}) for epoch in range(4)}
    assert said == {TrialScheduler.CONTINUE}


def outcomes(stopper: Component, trials: Sequence[tuple[str, Sequence[float]]]) -> list[int]:
    """Last epoch of each trial, one after the other.

    Args:
        stopper: Variant of ``STOPPERS``.
        trials: What each starts from, and its score after each epoch from 0.
    """
    scheduler, lasted = build(STOPPERS, stopper).build(EPOCHS), []
    for start, curve in trials:
        trial = Trial("any", config={START: start} if start else {}, stub=True)
        tune = SimpleNamespace(
            get_live_trials=list, _stopped_trials=set(), _trial_metadata={}, _trials_to_cache=set(), _trials=[]
        )
        scheduler.on_trial_add(tune, trial)
        last = 0
        for epoch, score in enumerate(curve):
            last = epoch
            if scheduler.on_trial_result(tune, trial, {EPOCH: epoch, METRIC: score}) == TrialScheduler.STOP:
                break
        scheduler.on_trial_complete(tune, trial, {"done": True})
        lasted.append(last)
    return lasted


def cold(best: float) -> list[float]:
    """From far behind to a little ahead of all others."""
    return [best - 5 * (EPOCHS - epoch) for epoch in range(EPOCHS + 1)]


def warm(best: float) -> list[float]:
    return [best - 0.1 * (EPOCHS - epoch) for epoch in range(EPOCHS + 1)]


@pytest.mark.parametrize("stopper", [ASHA, MEDIAN])
def test_trials_are_held_against_those_of_their_own_start(stopper: Component) -> None:
    warms = [("fine-tuned", warm(best)) for best in (5.0, 4.0, 3.0, 6.0, 1.0)]
    colds = [("base", cold(best)) for best in (7.0, 5.0, 8.0, 2.0, 9.0)]
    together = outcomes(stopper, [trial for pair in zip(warms, colds, strict=True) for trial in pair])
    assert together[::2] == outcomes(stopper, warms), "one start's trials end as if the other's were not there"
    assert together[1::2] == outcomes(stopper, colds)
    assert together[1::2][-1] == EPOCHS, "the best cold one, far behind each warm one at first"
    assert min(together[::2]) < EPOCHS > min(together[1::2]), "the worse ones of each start end early"
    mixed = outcomes(stopper, [("", curve) for pair in zip(warms, colds, strict=True) for _, curve in pair])
    assert mixed[-1] < EPOCHS, "held against all, the best one of all would have been stopped"


@pytest.mark.parametrize("reduction", [2.0, 3.0, 4.0])
def test_nobody_is_stopped_by_fewer_trials_than_one_of_which_goes_on(reduction: float) -> None:
    stopper = Component("asha", {"grace": 1, "reduction": reduction})
    falling = [("base", warm(best)) for best in (9.0, 8.0, 7.0, 6.0, 5.0)]
    lasted = outcomes(stopper, falling)
    few = int(reduction) - 1
    assert lasted[:few] == [EPOCHS] * few
    assert max(lasted[few:]) < EPOCHS


@ray.remote
class Curves:
    """Stands where the dispatcher stands: a job's key tells its learning curve."""

    def follow(self, key: str, awaited: int, seconds: float) -> Update:
        start, best = key.split(":")[:2]
        slope = 5.0 if start == "cold" else 0.1
        if awaited <= EPOCHS:
            score = float(best) - slope * (EPOCHS - awaited)
            return Update([EpochReport(awaited, score, best_score=score)], JobState.RUNNING)
        result = StageResult(best_score=float(best))
        return Update([], JobState.DONE, result)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("stopper", ["asha", "median"])
def test_in_a_search_cold_starts_are_pruned_against_cold_ones_alone(tmp_path: Path, stopper: str) -> None:
    """Each cold start is better than those before it, and each warm one worse."""
    space = space_of({"fusion": ["mean", "none"], "joint": {"optimizer": {"adamw": {"lr": {"float": [1e-4, 1e-2]}}}}})
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=5))
    prepare_study(study, [space.default()])
    begun: list[str] = []

    def start_of(recipe: Recipe) -> str:
        return "base" if recipe.fusion.name == "none" else "fine-tuned"

    def submit(recipe: Recipe) -> str:
        name = "cold" if start_of(recipe) == "base" else "warm"
        count = sum(key.startswith(name) for key in begun)
        begun.append(f"{name}:{12.0 + count if name == 'cold' else 10.0 - count}:{len(begun)}")
        return begun[-1]

    listener = Listener()
    searcher = OptunaSearcher(study, space, 16, submit, lambda _: None, [listener], groups=lambda: 1, start_of=start_of)
    params: dict[str, Any] = {"least": 3} if stopper == "median" else {"reduction": 3.0}
    tuner_of(
        searcher, Component(stopper, {"grace": 1, **params}), EPOCHS, {"CPU": 0.01}, Curves.remote(), tmp_path / "tune"
    ).fit()
    ended = [TrialRecord.of(trial) for trial in study.get_trials()]
    states: dict[str, list[str]] = {"cold": [], "warm": []}
    for key, record in zip(begun, ended, strict=True):
        states[key.split(":")[0]].append(record.state)
    assert len(ended) == 16
    assert states["cold"] == ["complete"] * len(states["cold"]), "each better than all before it of its start"
    assert len(states["cold"]) > 4
    assert set(states["warm"][3:]) == {"pruned"}, "each worse than all before it of its start"
    pruned = next(record for record in ended if record.state == "pruned")
    assert pruned.value == study.trials[pruned.number].intermediate_values[1]
