"""JacobianWeighting: methods that mix the tasks' gradients entry by entry, so that no weights can stand for them.

The step in ``shared`` mode hands over the gradients themselves and takes the mixture as the update.
"""

from abc import abstractmethod
from typing import final

import torch
from torch import Tensor

from mtl_search.weighting.base import Weighting


class JacobianWeighting(Weighting):
    """A way to combine task gradients; the weights that it is logged with are 1."""

    places = ("shared",)

    @final
    def combine(self, jacobian: Tensor, present: Tensor | None = None) -> Tensor:
        """One update from the tasks' gradients.

        Args:
            jacobian: Gradients of the whole batch, a row per task, (K, P); the same on every rank.
            present: Which tasks have a label in the batch, bool (K,) on the CPU; None where all have.

        Returns:
            The update (P,), as long as the sum of the gradients where they agree.

        Raises:
            ValueError: There is not one row per started task.
        """
        count = len(self._tasks)
        if jacobian.ndim != 2 or len(jacobian) != count:
            raise ValueError(f"jacobian must be ({count}, P), a row per started task, got {tuple(jacobian.shape)}")
        rows = torch.arange(count) if present is None else present.nonzero().flatten()
        if len(rows) < count:
            jacobian = jacobian.index_select(0, rows.to(jacobian.device))
        if len(rows) <= 1:
            return jacobian.sum(0)
        with torch.no_grad():
            return self._combine(jacobian)

    @abstractmethod
    def _combine(self, jacobian: Tensor) -> Tensor:
        """The update for the gradients of two tasks or more, (n, P) -> (P,)."""

    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        ones = torch.ones_like(losses)
        return ones if present is None else ones * present.to(losses.device)
