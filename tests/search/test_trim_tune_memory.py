"""What Ray Tune still holds of a search's ended trials, whichever stopper ended them."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from mtl_search.recipe import Component
from mtl_search.search.job_trainable import EPOCH, METRIC
from mtl_search.search.stoppers import STOPPERS
from mtl_search.search.tune_scheduler import SilentProgress, StoppingScheduler
from mtl_search.variants.building import build

EPOCHS, TRIALS = 3, 8


def climbing() -> type[tune.Trainable]:
    """Defined here, it goes to Tune's processes as it is; they cannot import test modules."""

    class Climbing(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._slope, self._epoch = config["slope"], 0

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            self._epoch += 1
            return {EPOCH: self._epoch, METRIC: self._slope * self._epoch, "done": self._epoch == EPOCHS}

    return Climbing


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("stopper", ["asha", "median"])
def test_tune_holds_no_more_of_many_trials_than_of_few(tmp_path: Path, stopper: str) -> None:
    scheduler = StoppingScheduler(build(STOPPERS, Component(stopper)).build(EPOCHS))
    complete, held, epochs = scheduler.on_trial_complete, list[tuple[int, ...]](), list[int]()
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    def watched(controller: Any, trial: Any, result: Any) -> None:
        complete(controller, trial, result)
        kept = (controller._trials, controller._stopped_trials, controller._trial_metadata, controller._trials_to_cache)
        alive.add(trial)
        gc.collect()
        held.append((*map(len, kept), len(alive)))
        epochs.append(result[EPOCH])

    scheduler.on_trial_complete = watched  # type: ignore[method-assign]
    found = tune.Tuner(
        climbing(),
        param_space={"slope": tune.grid_search([float(TRIALS - n) for n in range(TRIALS)])},
        tune_config=tune.TuneConfig(scheduler=scheduler, max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[SilentProgress()],
        ),
    ).fit()
    assert not found.errors
    assert len(held) == TRIALS
    *of_tune, trials = map(max, zip(*held, strict=True))
    assert max(of_tune) <= 3
    assert trials <= 3
    assert min(epochs) < EPOCHS, "worse ones end early"
