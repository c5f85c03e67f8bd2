"""Scalarized: torchjd's scalarizers as weightings.

A scalarizer makes one number of the losses; a task's weight is that number's derivative by its loss, times what makes
equal weighting 1 for every task. torchjd is imported where it is used: it imports the solvers too, for seconds.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mtl_search.weighting.base import Weighting
from mtl_search.weighting.memory import LearnedWeights
from mtl_search.weighting.presence import bounded, scatter_present, select_present, zero_absent

if TYPE_CHECKING:
    from torchjd.scalarization import Scalarizer

_LIMIT = 20.0


def derivative(scalarizer: "Scalarizer", values: Tensor) -> Tensor:
    """Derivative of a scalarizer by each of its values, (n,)."""
    with torch.enable_grad():
        values = values.detach().requires_grad_()
        return torch.autograd.grad(scalarizer(values), values)[0]


class Scalarized(Weighting):
    """A scalarizer without memory, applied to the losses of the tasks that have a label in the batch."""

    @abstractmethod
    def _scalarizer(self) -> "Scalarizer":
        """The scalarizer, whose derivatives sum up to 1 unless ``_scale`` says otherwise."""

    def _scale(self, count: int) -> float:
        """What the derivatives are multiplied by; as many as there are tasks where they sum up to 1."""
        return float(count)

    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        values = bounded(select_present(losses, present))
        weights = derivative(self._scalarizer(), values) * self._scale(len(values))
        return scatter_present(weights, present, losses)


class LearnedScales(LearnedWeights):
    """A scalarizer that learns one number per task, each from its own task's loss only, with an optimiser of its own.

    The number is held within +-20, so that a loss that is 0 for good has a finite weight.

    Args:
        lr: Learning rate of the numbers (Adam).
    """

    def __init__(self, lr: float) -> None:
        self.lr = lr

    @abstractmethod
    def _scalarizer(self, count: int) -> "Scalarizer":
        """The scalarizer, with one parameter (count,)."""

    @abstractmethod
    def _scale(self) -> float:
        """What makes the weights 1 while the learned numbers are 0."""

    def check(self, tasks: Sequence[str]) -> None:
        """Any tasks will do: torchjd, which takes a third of a second to import, need not be asked."""

    def _start(self, tasks: tuple[str, ...], device: torch.device, seed: int) -> None:
        self._method = self._scalarizer(len(tasks)).to(device, torch.float64)
        (learned,) = self._method.parameters()
        self._begin_with(learned)

    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        with torch.enable_grad():
            values = bounded(losses).requires_grad_()
            weights, slope = torch.autograd.grad(self._method(values), (values, self._learned))
        self._learned.grad = slope
        with self._held(present):
            self._optimizer.step()
            self._learned.clamp_(-_LIMIT, _LIMIT)
        return zero_absent(weights * self._scale(), present, losses)
