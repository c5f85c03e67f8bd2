"""Losses: sums over labelled entries, against torch's own means."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mtl_search.data.task import Task
from mtl_search.recipe import Component
from mtl_search.task_kinds import TASK_KINDS


class ContinuationRatio(nn.Module):
    """CORN's conditional losses, step by step: a row has a loss at each step up to its label."""

    def forward(self, raw: Tensor, targets: Tensor) -> Tensor:
        steps = []
        for step in range(raw.shape[1]):
            reached = targets >= step
            above = (targets[reached] > step).float()
            steps.append(nn.functional.binary_cross_entropy_with_logits(raw[reached, step], above, reduction="sum"))
        return torch.stack(steps).sum() / len(raw)


OWN: dict[str, nn.Module] = {
    "corn": ContinuationRatio(),
    "cross_entropy": nn.CrossEntropyLoss(),
    "bce": nn.BCEWithLogitsLoss(),
    "mse": nn.MSELoss(),
    "l1": nn.L1Loss(),
    "huber": nn.HuberLoss(),
    "poisson": nn.PoissonNLLLoss(),
}


class SlowFocal(nn.Module):
    """Focal loss as the paper writes it, from probabilities; of gamma 2."""

    def forward(self, raw: Tensor, targets: Tensor) -> Tensor:
        if targets.dtype == torch.int64:
            p = raw.double().softmax(1)[torch.arange(len(raw)), targets]
        else:
            p = torch.where(targets > 0, raw.double().sigmoid(), 1 - raw.double().sigmoid())
        return (-((1 - p) ** 2) * p.log()).mean().float()


def own_loss(kind: str, loss: str) -> nn.Module:
    return SlowFocal() if loss == "focal" else OWN[loss]


CASES = [(kind, loss) for kind, behaviour in TASK_KINDS.items() for loss in behaviour.losses]


def loss_sum(kind: str, loss: str, raw: Tensor, targets: Tensor, mask: Tensor | None) -> Tensor:
    task = Task("t", kind, "main", (), 0.0, 1.0, loss, Component("unused"), "y")
    return task.behaviour.loss_sum(task, raw, targets, mask)


def example(kind: str, rows: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Raw outputs, targets and mask of one task."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, 3) if kind in ("classification", "multilabel", "ordinal") else (rows,)
    raw = 3 * torch.randn(shape, generator=generator)
    if kind in ("classification", "ordinal"):
        targets = torch.randint(3 if kind == "classification" else 4, (rows,), generator=generator)
    elif kind == "count":
        targets = torch.randint(9, (rows,), generator=generator).float()
    elif kind == "regression":
        targets = 3 * torch.randn(rows, generator=generator)
    else:
        targets = torch.randint(2, shape, generator=generator).float()
    mask = torch.rand(targets.shape, generator=generator) < 0.6
    return raw.requires_grad_(), torch.where(mask, targets, 0), mask


@pytest.mark.parametrize(("kind", "loss"), CASES)
@given(rows=st.integers(1, 20), seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_a_sum_over_the_mask_is_torchs_mean_times_the_number_of_labels(
    kind: str, loss: str, rows: int, seed: int
) -> None:
    raw, targets, mask = example(kind, rows, seed)
    ours = loss_sum(kind, loss, raw, targets, mask)
    (gradient,) = torch.autograd.grad(ours, raw)
    if mask.any():
        expected = own_loss(kind, loss)(raw[mask], targets[mask]) * mask.sum()
        (own_gradient,) = torch.autograd.grad(expected, raw)
        torch.testing.assert_close(ours, expected)
        torch.testing.assert_close(gradient, own_gradient)
    else:
        assert ours == 0
        assert not gradient.any()


@pytest.mark.parametrize(("kind", "loss"), CASES)
def test_no_mask_means_that_every_entry_counts(kind: str, loss: str) -> None:
    raw, targets, mask = example(kind, 9, 0)
    torch.testing.assert_close(
        loss_sum(kind, loss, raw, targets, None),
        loss_sum(kind, loss, raw, targets, torch.ones_like(mask)),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize(("kind", "loss"), CASES)
@pytest.mark.parametrize("masked", [True, False])
def test_no_rows_give_zero_with_a_gradient(kind: str, loss: str, masked: bool) -> None:
    raw, targets, mask = example(kind, 0, 0)
    total = loss_sum(kind, loss, raw, targets, mask if masked else None)
    total.backward()
    assert total == 0
    assert raw.grad is not None
    assert raw.grad.shape == raw.shape


@pytest.mark.parametrize(("kind", "loss"), CASES)
def test_losses_of_bfloat16_outputs_are_summed_in_float32(kind: str, loss: str) -> None:
    raw, targets, mask = example(kind, 9, 1)
    half = raw.detach().bfloat16()
    assert loss_sum(kind, loss, half, targets, mask).dtype == torch.float32
    torch.testing.assert_close(
        loss_sum(kind, loss, half, targets, mask),
        loss_sum(kind, loss, half.float(), targets, mask),
    )
