"""GramianWeighting: torchjd's weightings on Gramians as weightings.

The step hands over the inner products of the tasks' gradients, the method makes weights of them. torchjd is imported
where it is used.
"""

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from mtl_search.weighting.base import Weighting
from mtl_search.weighting.presence import scatter_present, select_present

At = Literal["auto", "representation", "shared"]
_NOTHING = 1e-14
"""Squared norm, relative to the mean of all, below which a gradient counts as none (float32 has 7 digits)."""


class GramianWeighting(Weighting):
    """Weights from how the tasks' gradients lie to each other.

    The Gramian is divided by its mean diagonal, so that a method's weights depend on the angles and on the relative
    lengths of the gradients only, and are of the order of 1: where a method's own weights sum up to 1, they are
    multiplied by the number of tasks. All is computed in float64 on the CPU, the same on every rank. A task without a
    gradient has no say and weight 1; so have all where fewer than two have one, or one is not finite.

    Args:
        at: Where the tasks' gradients are taken; "auto" for the cheapest place that fits.
    """

    places = ("representation", "shared")
    cross_terms = True

    def __init__(self, at: At = "auto") -> None:
        self.at = at

    @abstractmethod
    def _balance(self, gramian: Tensor, tasks: Tensor) -> Tensor:
        """Weights of two gradients or more.

        Args:
            gramian: (n, n) with mean diagonal 1 and no 0 on it, float64 on the CPU.
            tasks: Which of the started tasks these are, indices (n,).

        Returns:
            Weights (n,), scaled so that equal weighting is 1 for every task.
        """

    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        assert gramian is not None, "the base has checked it"
        whole = gramian.to("cpu", torch.float64)
        whole = (whole + whole.T) / 2
        lengths = whole.diagonal() if present is None else whole.diagonal() * present
        moving = (lengths > _NOTHING * lengths.mean()).nonzero().flatten()
        weights = torch.ones(len(losses), dtype=torch.float64)
        if bool(whole.isfinite().all()) and len(moving) > 1:
            part = whole[moving][:, moving]
            found = self._balance(part / part.diagonal().mean(), moving)
            if bool(found.to(losses.dtype).isfinite().all()):
                weights[moving] = found
        return scatter_present(select_present(weights, present), present, losses)
