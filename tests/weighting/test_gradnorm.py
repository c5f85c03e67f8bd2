"""GradNorm: its closed form against autograd and what it converges to."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_search.weighting.gradnorm import GradNorm, norm_loss_derivative

sizes = st.lists(st.floats(0.01, 100), min_size=3, max_size=3).map(lambda xs: torch.tensor(xs, dtype=torch.float64))


def started(alpha: float, lr: float = 0.025) -> GradNorm:
    weighting = GradNorm(alpha, lr)
    weighting.start(["a", "b", "c"], "cpu")
    return weighting


@given(sizes, sizes, sizes, st.floats(0, 3))
@settings(deadline=None, max_examples=40)
def test_derivative_is_that_of_the_papers_loss_at_real_gradients(
    weights: torch.Tensor, norms: torch.Tensor, progress: torch.Tensor, alpha: float
) -> None:
    directions = torch.nn.functional.normalize(torch.tensor([[1.0, 2], [3, -1], [0.5, 0.1]], dtype=torch.float64))
    gradients = norms[:, None] * directions
    leaf = weights.clone().requires_grad_()
    lengths = torch.stack([(weight * gradient).norm() for weight, gradient in zip(leaf, gradients, strict=True)])
    target = (lengths.mean() * (progress / progress.mean()) ** alpha).detach()
    (expected,) = torch.autograd.grad((lengths - target).abs().sum(), leaf)
    found = norm_loss_derivative(weights, norms, progress, alpha)
    off = (lengths.detach() - target).abs() > 1e-9 * target  # at the kink the sign is rounding's
    torch.testing.assert_close(found[off], expected[off])


def test_weighted_gradients_grow_equally_long_where_alpha_is_0() -> None:
    norms = torch.tensor([0.5, 1.0, 4.0])
    weighting = started(alpha=0.0, lr=0.01)
    for _ in range(600):
        weights = weighting(torch.ones(3), None, torch.diag(norms**2))
    lengths = weights * norms
    torch.testing.assert_close(lengths, lengths.mean().expand(3), rtol=0.15, atol=0)
    assert weights.sum().item() == pytest.approx(3)


def test_task_that_learns_slowly_gains_weight() -> None:
    weighting = started(alpha=1.5)
    for step in range(40):
        weights = weighting(torch.tensor([0.9**step, 0.9**step, 1.0]), None, torch.eye(3))
    assert weights[2] > 1.3
    assert weights[0] < 0.9


def test_first_loss_is_that_of_the_first_batch_with_a_label() -> None:
    weighting = started(alpha=1.0)
    weighting(torch.tensor([1.0, 2.0, 0.0]), torch.tensor([True, True, False]), torch.diag(torch.tensor([1.0, 1, 0])))
    weighting(torch.tensor([0.5, 1.0, 7.0]), None, torch.eye(3))
    assert weighting.state_dict()["first"].tolist() == [1.0, 2.0, 7.0]


def test_step_with_an_infinite_gradient_teaches_nothing() -> None:
    weighting = started(alpha=1.0)
    weighting(torch.ones(3), None, torch.diag(torch.tensor([torch.inf, 1.0, 1.0])))
    assert weighting(torch.ones(3), None, torch.eye(3)).tolist() == [1, 1, 1]
