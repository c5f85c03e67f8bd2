"""Fixed weights: exponentials of the log ratios with mean 1."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtl_search.errors import ConfigError
from mtl_search.recipe import PerTaskButFirst
from mtl_search.weighting.fixed import Fixed

ratios = st.lists(st.floats(-5, 5), min_size=0, max_size=6)


def weights(log_ratio: PerTaskButFirst, count: int) -> Tensor:
    weighting = Fixed(log_ratio)
    weighting.start([f"t{i}" for i in range(count)], "cpu")
    return weighting(torch.ones(count))


def named(ratios: list[float]) -> dict[str, float]:
    return {f"t{i}": ratio for i, ratio in enumerate(ratios, 1)}


@given(ratios)
@settings(deadline=None)
def test_weights_have_mean_1_and_the_ratios_asked_for(ratios: list[float]) -> None:
    got = weights(named(ratios), len(ratios) + 1)
    assert got.mean().item() == pytest.approx(1)
    for weight, ratio in zip(got[1:], ratios, strict=True):
        assert (weight / got[0]).item() == pytest.approx(math.exp(ratio), rel=1e-5)


@given(ratios, st.floats(-3, 3))
@settings(deadline=None)
def test_shifting_all_log_ratios_but_the_firsts_scales_all_others_against_it(ratios: list[float], by: float) -> None:
    before = weights(named(ratios), len(ratios) + 1)
    after = weights(named([ratio + by for ratio in ratios]), len(ratios) + 1)
    torch.testing.assert_close(after[1:] / after[0], before[1:] / before[0] * math.exp(by), rtol=1e-4, atol=1e-6)


def test_default_weights_all_tasks_alike() -> None:
    assert weights(0.0, 4).tolist() == [1.0] * 4


def test_one_number_holds_for_all_tasks_after_the_first() -> None:
    torch.testing.assert_close(weights(math.log(2), 3), torch.tensor([1.0, 2.0, 2.0]) * 3 / 5)


def test_task_not_named_weighs_as_the_first() -> None:
    torch.testing.assert_close(weights({"t2": math.log(2)}, 3), torch.tensor([1.0, 1.0, 2.0]) * 3 / 4)


def test_losses_do_not_change_the_weights() -> None:
    weighting = Fixed({"b": 1.0})
    weighting.start(["a", "b"], "cpu")
    assert torch.equal(weighting(torch.tensor([1.0, 100.0])), weighting(torch.tensor([1e-9, torch.inf])))


def test_reference_and_unknown_tasks_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"weighting\.fixed\.log_ratio: .*'t0' is the reference.*'t0' \(choices: t1"):
        weights({"t0": 1.0}, 3)
    with pytest.raises(ConfigError, match=r"got 'digti'"):
        weights({"digti": 1.0}, 3)


def test_ratio_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"weighting\.fixed\.log_ratio: must be finite, got nan"):
        Fixed(float("nan"))
    with pytest.raises(ConfigError, match=r"log_ratio\.b: must be finite, got inf"):
        Fixed({"b": float("inf")})
