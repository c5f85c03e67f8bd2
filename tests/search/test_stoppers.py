"""What the stoppers say of a trial's epochs; learning curves are made up."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
import ray
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.schedulers.async_hyperband import _Bracket
from searched_spaces import Listener, PlayedRunner, space_of

from mtl_search.pool.jobs import JobState, Update
from mtl_search.pool.queue_client import JobQueueClient
from mtl_search.recipe import Component, Recipe
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.job_trainable import EPOCH, METRIC
from mtl_search.search.requeue import prepare_study
from mtl_search.search.searcher import OptunaSearcher
from mtl_search.search.stoppers import STOPPERS
from mtl_search.search.tuning import tuner_of
from mtl_search.storage.reports import EpochReport, StageResult
from mtl_search.variants.building import build

EPOCHS = 9
ASHA = Component("asha", {"grace": 1, "reduction": 3.0})
MEDIAN = Component("median", {"grace": 1, "least": 3})


def outcomes(stopper: Component, trials: Sequence[tuple[str, Sequence[float]]]) -> list[int]:
    """Last epoch of each trial, one after the other.

    Args:
        stopper: Variant of ``STOPPERS``.
        trials: What each starts from, and its score after each epoch from 0.
    """
    stopping, lasted = build(STOPPERS, stopper).build(EPOCHS), list[int]()
    for number, (start, curve) in enumerate(trials):
        stops = (stopping.stops(str(number), start, epoch, score) for epoch, score in enumerate(curve))
        lasted.append(next((epoch for epoch, stop in enumerate(stops) if stop), len(curve) - 1))
        stopping.end(str(number), start)
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


class TunesRungs(_Bracket):  # type: ignore[misc]
    """Ray Tune's, on which nobody is stopped before as many have come as one of which goes on."""

    def cutoff(self, recorded: Mapping[str, float]) -> Any:
        return None if len(recorded) + 1 < self.rf else super().cutoff(recorded)


def tunes_asha(grace: int, reduction: float) -> TrialScheduler:
    scheduler = AsyncHyperBandScheduler(EPOCH, METRIC, "max", EPOCHS + 1, grace, reduction)
    scheduler._brackets = [TunesRungs(grace, EPOCHS + 1, reduction, 0)]
    return scheduler


class TunesMedian(MedianStoppingRule):  # type: ignore[misc]
    """Ray Tune's; a trial ends with a result that holds no epoch and no score."""

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None: ...


def tunes_median(grace: int, least: int) -> TrialScheduler:
    options: dict[str, Any] = {"time_attr": EPOCH, "metric": METRIC, "mode": "max", "min_time_slice": math.inf}
    return TunesMedian(grace_period=grace, min_samples_required=least, **options)


@pytest.mark.parametrize(
    ("stopper", "reference"),
    [
        (Component("asha", {"grace": 1, "reduction": 2.0}), lambda: tunes_asha(1, 2.0)),
        (Component("asha", {"grace": 2, "reduction": 3.0}), lambda: tunes_asha(2, 3.0)),
        (Component("median", {"grace": 1, "least": 3}), lambda: tunes_median(1, 3)),
        (Component("median", {"grace": 3, "least": 1}), lambda: tunes_median(3, 1)),
    ],
)
def test_the_rules_say_what_those_of_ray_tune_say(stopper: Component, reference: Callable[[], TrialScheduler]) -> None:
    """Trials side by side, four at a time, with curves that rise, fall and cross."""
    random = np.random.default_rng(5)
    stopped = 0
    for _ in range(20):
        stopping, scheduler = build(STOPPERS, stopper).build(EPOCHS), reference()
        tune = SimpleNamespace(get_live_trials=list, get_trials=list)
        waiting = [np.maximum.accumulate(random.normal(0, 1, EPOCHS).cumsum()) for _ in range(30)]
        live: list[tuple[Trial, list[float]]] = []
        while waiting or live:
            while waiting and len(live) < 4:
                live.append((Trial("any", stub=True), waiting.pop().tolist()))
                scheduler.on_trial_add(tune, live[-1][0])
            trial, curve = live.pop(int(random.integers(len(live))))
            epoch, score = EPOCHS + 1 - len(curve), curve.pop(0)
            said = scheduler.on_trial_result(tune, trial, {EPOCH: epoch, METRIC: score})
            stops = stopping.stops(trial.trial_id, "", epoch, score)
            assert stops == (said == TrialScheduler.STOP)
            if stops or not curve:
                stopped += stops
                # Tune tells a scheduler the last result of a stopped trial a second time.
                scheduler.on_trial_complete(tune, trial, {EPOCH: epoch, METRIC: score})
                stopping.end(trial.trial_id, "")
            else:
                live.append((trial, curve))
    assert stopped > 50


@ray.remote
class Curves:
    """Stands where the job queue stands: a job's key tells its learning curve."""

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
    prepare_study(study, [space.default()], Listener())
    begun: list[str] = []

    def start_of(recipe: Recipe) -> str:
        return "base" if recipe.fusion.name == "none" else "fine-tuned"

    def key_of(recipe: Recipe) -> str:
        name = "cold" if start_of(recipe) == "base" else "warm"
        count = sum(key.startswith(name) for key in begun)
        begun.append(f"{name}:{12.0 + count if name == 'cold' else 10.0 - count}:{len(begun)}")
        return begun[-1]

    searcher = OptunaSearcher(study, space, 16, PlayedRunner(1, key_of, start_of), Listener())
    params: dict[str, Any] = {"least": 3} if stopper == "median" else {"reduction": 3.0}
    stopping = build(STOPPERS, Component(stopper, {"grace": 1, **params})).build(EPOCHS)
    queue = JobQueueClient(Curves.remote())  # type: ignore[attr-defined]
    tuner_of(searcher, stopping, {"CPU": 0.01}, queue, tmp_path / "tune").fit()
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
