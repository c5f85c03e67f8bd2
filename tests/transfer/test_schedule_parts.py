"""Optimisers and decays: which torch optimiser is built, and the closed forms of the curves."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mtl_search.errors import ConfigError
from mtl_search.transfer.decays import Constant, Cosine
from mtl_search.transfer.optimizers import AdamW, Sgd


def test_adamw_passes_its_parameters_on() -> None:
    built = AdamW(lr=0.1, weight_decay=0.2, beta1=0.3, beta2=0.4).build(nn.Linear(2, 2).parameters())
    assert isinstance(built, torch.optim.AdamW)
    (group,) = built.param_groups
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.1, 0.2, (0.3, 0.4))
    assert group["fused"]


def test_sgd_passes_its_parameters_on() -> None:
    built = Sgd(lr=0.1, momentum=0.2, weight_decay=0.3, nesterov=True).build(nn.Linear(2, 2).parameters())
    assert isinstance(built, torch.optim.SGD)
    (group,) = built.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.1, 0.2, 0.3, True)
    assert group["fused"]


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.sgd\.momentum: must be above 0 with nesterov"):
        Sgd(momentum=0.0, nesterov=True)


def test_device_without_fused_kernels_gets_the_plain_optimiser() -> None:
    (group,) = AdamW().build([nn.Parameter(torch.empty(2, device="meta"))]).param_groups
    assert not group["fused"]


@given(st.integers(1, 100), st.floats(0, 1))
def test_cosine_without_warmup_has_its_closed_form(steps: int, floor: float) -> None:
    curve = Cosine(floor=floor)
    for step in range(steps + 1):
        wanted = floor + (1 - floor) / 2 * (1 + math.cos(math.pi * step / steps))
        assert curve.factor(step, steps) == pytest.approx(wanted)
    assert curve.factor(0, steps) == 1
    assert curve.factor(steps, steps) == pytest.approx(floor)
    assert curve.factor(steps, 2 * steps) == pytest.approx((1 + floor) / 2)


def test_cosine_starts_after_warmup() -> None:
    curve = Cosine(warmup=0.2)
    assert [curve.factor(step, 10) for step in (0, 1, 2)] == [0.5, 1.0, 1.0]
    assert curve.factor(6, 10) == pytest.approx(0.5)


def test_constant_stays_at_the_peak() -> None:
    assert {Constant().factor(step, 7) for step in range(8)} == {1.0}


def test_stage_of_no_steps_has_a_factor() -> None:
    assert Cosine().factor(0, 0) == 1
