"""GradDrop: every entry of the update follows one sign."""

import torch
from torch import Tensor

from mtl_search.recipe import Fraction
from mtl_search.weighting.drawing import RandomWeighting
from mtl_search.weighting.jacobian import JacobianWeighting


class GradDrop(RandomWeighting, JacobianWeighting):
    """GradDrop: at each parameter a sign is drawn, by its share of the gradients; tasks of the other sign are dropped.

    Paper: Chen et al., Just Pick a Sign: Gradient Sign Dropout, NeurIPS 2020, https://arxiv.org/abs/2010.06808

    Args:
        leak: Share of a dropped gradient that counts all the same; 1 for the plain sum.
    """

    def __init__(self, leak: Fraction = 0.0) -> None:
        self.leak = leak

    def _combine(self, jacobian: Tensor) -> Tensor:
        from torchjd.aggregation import GradDrop as Aggregator

        with self._drawing(jacobian.device):
            # Drawn on the CPU, since the numbers of one GPU model are not those of another. torchjd compares f(purity)
            # with numbers in [0, 1) of its own: a step at our number decides before them.
            drawn = torch.rand(jacobian.shape[1]).to(jacobian.device)
            leak = jacobian.new_full((len(jacobian),), self.leak)
            drop = Aggregator(lambda purity: torch.where(purity > drawn, 2.0, -1.0).to(jacobian.dtype), leak)
            return drop(jacobian)
