"""Each alignment against its published formula."""

from collections.abc import Sequence
from itertools import combinations
from math import exp

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from mtl_search.alignment.coral import coral
from mtl_search.alignment.dann import reversal_at
from mtl_search.alignment.matching import Distance, gather_features
from mtl_search.alignment.mmd import BANDWIDTHS, mmd
from mtl_search.models.alignment_point import AlignmentPoint
from mtl_search.models.forward_context import ForwardContext
from mtl_search.models.sharing.discriminator import Discriminator, reverse_gradient

samples = st.tuples(st.lists(st.integers(2, 6), min_size=2, max_size=4), st.integers(1, 5), st.integers(0, 2**20))
distances = pytest.mark.parametrize("distance", [coral, mmd])


def draw(sizes: Sequence[int], features: int, seed: int) -> Tensor:
    """Rows of data sets that differ in place and spread."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(n, features, generator=generator) * (1 + i) + 3 * i for i, n in enumerate(sizes)]
    return torch.cat(parts)


def covariance_distance(a: Tensor, b: Tensor) -> Tensor:
    return (torch.cov(a.T) - torch.cov(b.T)).square().sum() / (4 * a.shape[1] ** 2)


def discrepancy(a: Tensor, b: Tensor, scale: float) -> float:
    """Maximum mean discrepancy as a double sum over rows."""

    def mean_kernel(left: Tensor, right: Tensor) -> float:
        kernels = [
            sum(exp(-float((x - y).square().sum()) / (width * scale)) for width in BANDWIDTHS) / len(BANDWIDTHS)
            for x in left
            for y in right
        ]
        return sum(kernels) / len(kernels)

    return mean_kernel(a, a) + mean_kernel(b, b) - 2 * mean_kernel(a, b)


@given(samples)
@settings(deadline=None, max_examples=50)
def test_coral_is_the_mean_distance_of_covariances(sample: tuple[list[int], int, int]) -> None:
    sizes, features, seed = sample
    rows = draw(sizes, features, seed).double()
    pairs = list(combinations(rows.split(sizes), 2))
    expected = torch.stack([covariance_distance(a.view(-1, features), b.view(-1, features)) for a, b in pairs]).mean()
    torch.testing.assert_close(coral(rows, sizes), expected)
    torch.testing.assert_close(coral(rows.float(), sizes), expected.float(), rtol=1e-4, atol=1e-5)


@given(samples)
@settings(deadline=None, max_examples=10)
def test_mmd_is_the_double_sum_over_rows(sample: tuple[list[int], int, int]) -> None:
    sizes, features, seed = sample
    rows = draw(sizes, features, seed).double()
    gaps = [float((x - y).square().sum()) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]
    scale = sum(gaps) / len(gaps)
    found = [discrepancy(a, b, scale) for a, b in combinations(rows.split(sizes), 2)]
    assert float(mmd(rows, sizes)) == pytest.approx(sum(found) / len(found), abs=1e-12)
    assert float(mmd(rows.float(), sizes)) == pytest.approx(sum(found) / len(found), abs=1e-5)


def test_coral_of_equal_covariances_is_0_wherever_their_means_are() -> None:
    part = draw([9], 4, 0)
    assert float(coral(torch.cat([part, part.flip(0) + 5, 1 - part]), [9, 9, 9])) == pytest.approx(0, abs=1e-5)
    assert float(coral(torch.cat([part, 2 * part]), [9, 9])) > 0.1


def test_coral_of_gaussians_that_differ_in_scale_alone_is_known() -> None:
    # Covariances I and 4 I in d features: ||3 I||_F^2 / (4 d^2) = 9 / (4 d).
    rows = draw([20], 3, 0).double()
    centred = rows - rows.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(rows.T)), centred.T, upper=False).T
    assert coral(torch.cat([white, 2 * white + 7]), [20, 20]).item() == pytest.approx(9 / 12)


def test_mmd_of_equal_samples_is_0_whatever_their_order() -> None:
    part = draw([8], 3, 1)
    assert float(mmd(torch.cat([part, part.flip(0)]), [8, 8])) == pytest.approx(0, abs=1e-6)
    assert float(mmd(torch.cat([part, part + 1]), [8, 8])) > 1e-3


def test_mmd_is_the_same_for_features_of_any_scale_and_place() -> None:
    rows = draw([5, 6], 3, 2)
    for other in (1000 * rows, rows / 1000, rows + 30):
        torch.testing.assert_close(mmd(other, [5, 6]), mmd(rows, [5, 6]), rtol=1e-3, atol=1e-4)


@distances
@given(sample=samples, turn=st.integers(0, 2**20))
@settings(deadline=None, max_examples=20)
def test_order_of_rows_does_not_show(distance: Distance, sample: tuple[list[int], int, int], turn: int) -> None:
    sizes, features, seed = sample
    rows = draw(sizes, features, seed).double()
    generator = torch.Generator().manual_seed(turn)
    shuffled = torch.cat([part[torch.randperm(len(part), generator=generator)] for part in rows.split(sizes)])
    torch.testing.assert_close(distance(shuffled, sizes), distance(rows, sizes))


@distances
@pytest.mark.parametrize("value", [0.0, 3.7, 1e4])
def test_features_that_collapsed_to_a_point_are_aligned_and_get_no_gradient(distance: Distance, value: float) -> None:
    rows = torch.full((7, 5), value, requires_grad=True)
    found = distance(rows, [4, 3])
    found.backward()
    assert found.item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(rows.grad, torch.zeros(7, 5), rtol=0, atol=1e-5)


@distances
def test_a_single_row_of_a_data_set_is_enough(distance: Distance) -> None:
    rows = draw([4, 1], 3, 0).requires_grad_()
    distance(rows, [4, 1]).backward()
    assert rows.grad.isfinite().all()


def test_coral_takes_a_single_row_to_have_no_spread() -> None:
    rows = draw([4, 1], 3, 0)
    torch.testing.assert_close(coral(rows, [4, 1]), torch.cov(rows[:4].T).square().sum() / 36)


def test_gradient_of_coral_is_that_of_its_value() -> None:
    rows = draw([4, 5, 2], 2, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: coral(x, [4, 5, 2]), rows)


def test_gradient_of_mmd_takes_the_bandwidth_as_given() -> None:
    rows = draw([4, 5], 2, 3).double().requires_grad_()
    gaps = (rows[:, None] - rows).square().sum(2)
    scale = gaps.sum().item() / (9 * 8)
    kernel = torch.stack([(-gaps / (width * scale)).exp() for width in BANDWIDTHS]).mean(0)
    signs = torch.tensor([1 / 4] * 4 + [-1 / 5] * 5).double()
    expected = signs @ kernel @ signs
    torch.testing.assert_close(mmd(rows, [4, 5]), expected)
    (theirs,), (ours,) = (torch.autograd.grad(value, rows) for value in (expected, mmd(rows, [4, 5])))
    torch.testing.assert_close(ours, theirs)


def test_reversal_leaves_the_value_and_turns_the_gradient() -> None:
    x = torch.tensor([0.1, -3.0, 1e6], requires_grad=True)
    y = reverse_gradient(x, 0.3)
    assert torch.equal(y, x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.full((3,), -0.3))


def test_reversal_rises_from_0_towards_1() -> None:
    # Ganin et al. 2016, section 5.2.2, with gamma 10.
    assert reversal_at(0.0, 10.0) == 0
    assert reversal_at(0.1, 10.0) == pytest.approx(2 / (1 + exp(-1)) - 1)
    assert reversal_at(0.5, 10.0) == pytest.approx(0.98661, abs=1e-5)
    assert 0.9999 < reversal_at(0.999, 10.0) < 1
    assert reversal_at(0.5, 2.0) < reversal_at(0.5, 10.0)


@pytest.mark.parametrize("hidden", [0, 6])
def test_discriminator_learns_and_what_feeds_it_unlearns(hidden: int) -> None:
    net = Discriminator(3, 2, hidden)
    net.initialise(0, "x")
    rows = draw([5, 4], 3, 0).requires_grad_()
    found = net(rows, [5, 4], 0.5)
    h = functional.linear(rows, net.hidden["weight"], net.hidden["bias"]).relu() if hidden else rows
    guesses = functional.linear(h, net.weight, net.bias)
    expected = functional.cross_entropy(guesses, torch.tensor([0] * 5 + [1] * 4), reduction="sum")
    torch.testing.assert_close(found, expected)
    own = list(net.parameters())
    *ours, toward = torch.autograd.grad(found, [*own, rows])
    *theirs, away = torch.autograd.grad(expected, [*own, rows])
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(toward, -0.5 * away)


@pytest.mark.parametrize("shares", [[(3, 1), (1, 2)], [(4, 0), (0, 3)], [(0, 0), (4, 3)]])
def test_gathered_rows_lie_as_in_one_process_and_own_ones_keep_their_gradient(shares: list[tuple[int, int]]) -> None:
    whole = draw([4, 3], 2, 0)
    first, second = whole.split([4, 3])
    begins = [(0, 0), shares[0]]
    own = [
        torch.cat([first[a : a + n], second[b : b + m]]).requires_grad_()
        for (a, b), (n, m) in zip(begins, shares, strict=True)
    ]
    for rank, rows in enumerate(own):
        other = torch.zeros(7, 2)
        (a, b), (n, m) = begins[1 - rank], shares[1 - rank]
        other[a : a + n], other[4 + b : 4 + b + m] = first[a : a + n], second[b : b + m]
        context = ForwardContext(
            ranks=2, sum=lambda mine, other=other: mine + other, global_rows=(9, 4, 3), starts=(5, *begins[rank])
        )
        alignment_point = AlignmentPoint(("a", "b"), (1, 2), rows, shares[rank])
        found, sizes = gather_features(alignment_point, context)
        assert sizes == (4, 3)
        assert torch.equal(found, whole)
        found.sum().backward()
        assert torch.equal(rows.grad, torch.ones_like(rows))
