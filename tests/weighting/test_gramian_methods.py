"""Gradient balancing: weights against closed forms and the published equations."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtl_search.weighting.aligned_mtl import AlignedMtl
from mtl_search.weighting.base import Weighting
from mtl_search.weighting.cagrad import CaGrad
from mtl_search.weighting.fairgrad import FairGrad
from mtl_search.weighting.fairness import _RIDGE, fair_weights
from mtl_search.weighting.imtl_g import ImtlG
from mtl_search.weighting.mgda import Mgda
from mtl_search.weighting.nash_mtl import NashMtl
from mtl_search.weighting.pcgrad import PcGrad
from mtl_search.weighting.upgrad import UpGrad

pairs = st.tuples(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(-0.95, 0.95))
quick = settings(deadline=None, max_examples=25)


def weights_of(weighting: Weighting, gramian: Tensor) -> Tensor:
    weighting.start([f"t{i}" for i in range(len(gramian))], "cpu")
    return weighting(torch.ones(len(gramian), dtype=torch.float64), None, gramian)


def gramian_of(pair: tuple[float, float, float]) -> Tensor:
    """Two gradients by their lengths and the cosine between them."""
    a, b, cosine = pair
    return torch.tensor([[a * a, a * b * cosine], [a * b * cosine, b * b]], dtype=torch.float64)


def generic(count: int, seed: int = 0) -> Tensor:
    """Gradients that conflict here and there, scaled to mean squared length 1, as the methods see them."""
    jacobian = torch.randn(count, 2 * count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gramian = jacobian @ jacobian.T
    return gramian / gramian.diagonal().mean()


@given(pairs)
@quick
def test_mgda_of_two_tasks_is_the_closed_form_of_the_shortest_mixture(pair: tuple[float, float, float]) -> None:
    gramian = gramian_of(pair)
    first, second, inner = gramian[0, 0], gramian[1, 1], gramian[0, 1]
    share = ((second - inner) / (first + second - 2 * inner)).clamp(0, 1)
    expected = 2 * torch.stack([share, 1 - share])
    torch.testing.assert_close(weights_of(Mgda(), gramian), expected, rtol=1e-5, atol=1e-5)


@given(pairs)
@quick
def test_pcgrad_of_two_tasks_projects_what_conflicts_and_leaves_what_agrees(pair: tuple[float, float, float]) -> None:
    gramian = gramian_of(pair)
    inner = gramian[0, 1]
    expected = torch.ones(2, dtype=torch.float64)
    if inner < 0:
        expected -= inner / gramian.diagonal()
    torch.testing.assert_close(weights_of(PcGrad(), gramian), expected)


def test_pcgrad_projects_in_an_order_that_it_draws() -> None:
    gramian, weighting = generic(6), PcGrad()
    weighting.start([f"t{i}" for i in range(6)], "cpu")
    seen = {tuple(weighting(torch.ones(6), None, gramian).tolist()) for _ in range(10)}
    assert len(seen) > 1


@given(pairs)
@quick
def test_upgrad_leaves_gradients_that_agree_and_hurts_no_task(pair: tuple[float, float, float]) -> None:
    gramian = gramian_of(pair)
    weights = weights_of(UpGrad(), gramian)
    if gramian[0, 1] >= 0:
        torch.testing.assert_close(weights, torch.ones(2, dtype=torch.float64))
    improvement = (gramian @ weights) / gramian.diagonal()
    assert (improvement > -1e-3).all()


def test_upgrad_of_two_conflicting_tasks_is_the_sum_of_their_projections() -> None:
    weights = weights_of(UpGrad(), gramian_of((1.0, 2.0, -0.5)))
    torch.testing.assert_close(weights, torch.tensor([1 + 1.0, 1 + 0.25], dtype=torch.float64))


@pytest.mark.parametrize("count", [2, 5])
def test_cagrad_with_radius_0_is_the_mean(count: int) -> None:
    weights = weights_of(CaGrad(c=0.0), generic(count))
    torch.testing.assert_close(weights, torch.ones(count, dtype=torch.float64))


def test_cagrad_helps_the_worst_off_task_most_within_its_ball() -> None:
    gramian, radius = generic(3, seed=5), 0.4

    def worst(weights: Tensor) -> float:
        return (gramian @ weights).min().item()

    weights = weights_of(CaGrad(radius), gramian)
    ones = torch.ones(3, dtype=torch.float64)
    length = (ones @ gramian @ ones).sqrt()
    away = weights - ones
    assert (away @ gramian @ away).sqrt().item() == pytest.approx(radius * length.item(), rel=1e-3)
    for direction in torch.randn(300, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64):
        other = ones + direction * radius * length / (direction @ gramian @ direction).sqrt()
        assert worst(other) <= worst(weights) + 1e-4


@pytest.mark.parametrize("count", [2, 4])
def test_imtl_g_projects_equally_on_every_gradient_direction(count: int) -> None:
    gramian = generic(count)
    weights = weights_of(ImtlG(), gramian)
    projections = (gramian @ weights) / gramian.diagonal().sqrt()
    torch.testing.assert_close(projections, projections.mean().expand(count))
    assert weights.sum().item() == pytest.approx(count)


@pytest.mark.parametrize(("mode", "squared"), [("min", 1.0), ("median", 4.0), ("rmse", 14 / 3)])
def test_aligned_mtl_brings_orthogonal_gradients_to_one_length(mode: str, squared: float) -> None:
    lengths = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    weights = weights_of(AlignedMtl(mode), torch.diag(lengths**2))
    torch.testing.assert_close(weights * lengths, torch.full((3,), math.sqrt(squared), dtype=torch.float64))


def test_aligned_mtl_makes_the_gradients_orthogonal() -> None:
    # Weights are B 1 with B G B a multiple of the identity: the update's square is that of orthogonal gradients.
    gramian = generic(4)
    weights = weights_of(AlignedMtl(), gramian)
    least = torch.linalg.eigvalsh(gramian)[0]
    assert (weights @ gramian @ weights).item() == pytest.approx(4 * least.item())


@pytest.mark.parametrize("count", [2, 3, 5])
def test_nash_mtl_solves_its_bargaining_equation(count: int) -> None:
    gramian = generic(count)
    weighting = NashMtl()
    weights = weights_of(weighting, gramian)
    torch.testing.assert_close(weights * (gramian @ weights), torch.ones(count, dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_fairgrad_solves_its_equation(alpha: float) -> None:
    gramian = generic(4)
    weights = weights_of(FairGrad(alpha), gramian)
    torch.testing.assert_close(gramian @ weights, weights ** (-1 / alpha), rtol=1e-6, atol=1e-6)


@given(st.integers(2, 8), st.integers(1, 8), st.floats(0.3, 4.0), st.integers(0, 2**31))
@quick
def test_fair_weights_solve_their_equation_whatever_the_conflict(n: int, rank: int, alpha: float, seed: int) -> None:
    rows = torch.randn(n, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gramian = rows @ rows.T + 1e-3 * torch.eye(n, dtype=torch.float64)
    gramian /= gramian.diagonal().mean()
    weights = fair_weights(gramian, alpha)
    assert (weights > 0).all()
    solved, one = gramian + _RIDGE * torch.eye(n, dtype=torch.float64), torch.ones_like(weights)
    torch.testing.assert_close((solved @ weights) * weights ** (1 / alpha), one, rtol=0, atol=1e-5)


def test_fair_weights_stay_finite_where_gradients_cancel() -> None:
    weights = fair_weights(torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64), 1.0)
    assert weights.isfinite().all()
    assert weights[0] == pytest.approx(weights[1].item())


@pytest.mark.parametrize("count", [2, 5])
def test_cagrad_is_the_best_update_in_its_ball(count: int) -> None:
    # Its dual problem, min over the simplex of g_w . g_0 + c |g_0| |g_w|, against a search over many mixtures.
    gramian, c = generic(count), 0.4
    weights = weights_of(CaGrad(c), gramian)
    mean = torch.full((count,), 1 / count, dtype=torch.float64)
    radius = c * (mean @ gramian @ mean).sqrt()

    def cost(w: torch.Tensor) -> torch.Tensor:
        return w @ gramian @ mean + radius * (w @ gramian @ w).sqrt()

    found = (weights / count - mean).clamp(min=0)
    found = found / found.sum()
    torch.manual_seed(0)
    others = torch.distributions.Dirichlet(torch.full((count,), 0.5, dtype=torch.float64)).sample((2_000,))
    assert cost(found) <= min(cost(w) for w in others) + 1e-7
    length = ((weights / count - mean) @ gramian @ (weights / count - mean)).sqrt()
    assert float(length) == pytest.approx(float(radius))


@pytest.mark.parametrize("kind", [Mgda, PcGrad, CaGrad, UpGrad, AlignedMtl, ImtlG, NashMtl, FairGrad])
def test_task_without_a_gradient_has_no_say(kind: Callable[[], Weighting]) -> None:
    gramian = torch.zeros(4, 4, dtype=torch.float64)
    others = torch.tensor([0, 2, 3])
    gramian[others[:, None], others] = generic(3)
    weights = weights_of(kind(), gramian)
    assert weights[1] == 1
    torch.testing.assert_close(weights[others], weights_of(kind(), generic(3)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_gramian_that_is_not_finite_gives_equal_weights(value: float) -> None:
    gramian = generic(3)
    gramian[0, 0] = value
    assert weights_of(Mgda(), gramian).tolist() == [1, 1, 1]
