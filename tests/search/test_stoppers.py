"""What the stoppers say of a trial's epochs, beside what Tune's own tests hold."""

from types import SimpleNamespace

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from mtl_search.recipe import Component
from mtl_search.search.stoppers import STOPPERS
from mtl_search.search.trainable import EPOCH, METRIC
from mtl_search.variants import build


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
