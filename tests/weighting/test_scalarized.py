"""Weightings that read one step's losses: weights against each method's formula."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtl_search.weighting.base import Weighting
from mtl_search.weighting.geometric_mean import GeometricMean
from mtl_search.weighting.imtl_l import ImtlL
from mtl_search.weighting.random import Random
from mtl_search.weighting.stch import Stch
from mtl_search.weighting.uncertainty import Uncertainty

some_losses = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=6).map(torch.tensor)
quick = settings(deadline=None, max_examples=25)


def started(weighting: Weighting, count: int, seed: int = 0) -> Weighting:
    weighting.start([f"t{i}" for i in range(count)], "cpu", seed)
    return weighting


@given(some_losses, st.floats(0.05, 5))
@quick
def test_smooth_tchebycheff_weighs_by_the_softmax_of_the_losses(losses: Tensor, mu: float) -> None:
    count = len(losses)
    expected = count * (losses.double() / count / mu).softmax(0)
    torch.testing.assert_close(started(Stch(mu), count)(losses), expected.float())


def test_smooth_tchebycheff_with_little_smoothing_trains_the_worst_task_only() -> None:
    torch.testing.assert_close(started(Stch(1e-3), 3)(torch.tensor([0.5, 2.0, 1.0])), torch.tensor([0.0, 3.0, 0.0]))


@given(some_losses)
@quick
def test_geometric_mean_weighs_by_the_inverse_loss(losses: Tensor) -> None:
    expected = losses.double().log().mean().exp() / losses.double()
    torch.testing.assert_close(started(GeometricMean(), len(losses))(losses), expected.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [Uncertainty, ImtlL])
def test_learned_scales_tend_to_the_inverse_of_constant_losses(kind: type[Uncertainty | ImtlL]) -> None:
    losses = torch.tensor([0.2, 1.0, 3.0])
    weighting = started(kind(lr=0.05), 3)
    weights = torch.stack([weighting(losses) for _ in range(400)])
    assert weights[0].tolist() == [1, 1, 1]
    torch.testing.assert_close(weights[-100:].mean(0), 1 / losses, rtol=0.02, atol=0)


def test_uncertainty_of_noisy_losses_settles_at_their_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    weighting = started(Uncertainty(lr=0.02), 2)
    noise = torch.rand(600, 2, generator=generator) + 0.5
    weights = torch.stack([weighting(torch.tensor([0.5, 2.0]) * factor) for factor in noise])
    torch.testing.assert_close(weights[-200:].mean(0), torch.tensor([2.0, 0.5]), rtol=0.1, atol=0)


def test_loss_that_is_0_for_good_has_a_bounded_weight() -> None:
    weighting = started(Uncertainty(lr=100.0), 2)
    for _ in range(10):
        weights = weighting(torch.tensor([0.0, 1.0]))
        assert weights.max().item() <= math.exp(20) * 1.001


def test_random_weights_are_softmaxes_of_normal_numbers() -> None:
    weighting = started(Random(), 2)
    weights = torch.stack([weighting(torch.rand(2)) for _ in range(2000)])
    torch.testing.assert_close(weights.sum(1), torch.full((2000,), 2.0))
    logits = (weights[:, 0] / weights[:, 1]).log()  # the difference of two standard normal numbers
    assert abs(logits.mean().item()) < 0.15
    assert abs(logits.std().item() - 2**0.5) < 0.15
