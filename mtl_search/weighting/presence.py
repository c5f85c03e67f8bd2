"""Presence: from the losses of all tasks to those with a label in the batch, and back.

What the adapters to torchjd share between a step's losses and its weights.
"""

import torch
from torch import Tensor

_SMALLEST, _LARGEST = 1e-8, 1e30


def bounded(losses: Tensor) -> Tensor:
    """Losses as float64 in [1e-8, 1e30]: their logarithms, quotients and squares are finite."""
    return losses.to(torch.float64).clamp(_SMALLEST, _LARGEST)


def select_present(values: Tensor, present: Tensor | None) -> Tensor:
    """The present tasks' values, (K,) -> (n,), without making a device wait."""
    if present is None:
        return values
    return values.index_select(0, present.nonzero().flatten().to(values.device))


def scatter_present(weights: Tensor, present: Tensor | None, losses: Tensor) -> Tensor:
    """Weights of the present tasks, (n,), as weights of all, (K,): 0 for the absent, like the losses in kind."""
    weights = weights.to(losses.device, losses.dtype)
    if present is None:
        return weights
    return torch.zeros_like(losses).index_copy(0, present.nonzero().flatten().to(losses.device), weights)


def zero_absent(weights: Tensor, present: Tensor | None, losses: Tensor) -> Tensor:
    """Weights of all tasks, (K,), with 0 for the absent, like the losses in kind."""
    weights = weights.to(losses.device, losses.dtype)
    return weights if present is None else weights * present.to(losses.device)
