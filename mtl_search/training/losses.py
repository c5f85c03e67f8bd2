"""Task losses as sums over labelled entries, so that a mean over the global batch is exact on any number of workers."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

LossSum = Callable[[Tensor, Tensor, str], Tensor]


def _cross_entropy(raw: Tensor, targets: Tensor, reduction: str) -> Tensor:
    return functional.cross_entropy(raw, targets, reduction=reduction)


def _bce(raw: Tensor, targets: Tensor, reduction: str) -> Tensor:
    return functional.binary_cross_entropy_with_logits(raw, targets, reduction=reduction)


def _mse(raw: Tensor, targets: Tensor, reduction: str) -> Tensor:
    return functional.mse_loss(raw, targets, reduction=reduction)


def _l1(raw: Tensor, targets: Tensor, reduction: str) -> Tensor:
    return functional.l1_loss(raw, targets, reduction=reduction)


def _huber(raw: Tensor, targets: Tensor, reduction: str) -> Tensor:
    return functional.huber_loss(raw, targets, reduction=reduction)


_LOSSES: Mapping[str, LossSum] = {
    "cross_entropy": _cross_entropy,
    "bce": _bce,
    "mse": _mse,
    "l1": _l1,
    "huber": _huber,
}


def loss_sum(name: str, raw: Tensor, targets: Tensor, mask: Tensor | None) -> Tensor:
    """Sum of a task's loss over its labelled entries.

    Args:
        name: A task's ``loss``.
        raw: Raw outputs of the head, (n, classes), (n, labels) or (n,).
        targets: (n,) or (n, labels); regression in scaled units.
        mask: Where a label is present, shaped as ``targets``; None where all are.

    Returns:
        Scalar; 0, with a gradient of 0, where no entry has a label.
    """
    raw = raw.float()
    if mask is None:
        return _LOSSES[name](raw, targets, "sum")
    each = _LOSSES[name](raw, targets, "none")
    return torch.where(mask, each, 0.0).sum()
