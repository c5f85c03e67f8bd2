"""PcGrad: what contradicts another task is cut off a gradient."""

from torch import Tensor

from mtl_search.weighting.drawing import RandomWeighting
from mtl_search.weighting.gramian import GramianWeighting


class PcGrad(RandomWeighting, GramianWeighting):
    """PCGrad: each gradient is projected off those it conflicts with, one by one in random order; then the sum.

    Paper: Yu et al., Gradient Surgery for Multi-Task Learning, NeurIPS 2020, https://arxiv.org/abs/2001.06782

    Args:
        at: Where the tasks' gradients are taken; "auto" for the cheapest place that fits.
    """

    def _balance(self, gramian: Tensor, tasks: Tensor) -> Tensor:
        from torchjd.aggregation import PCGradWeighting

        with self._drawing():
            return PCGradWeighting()(gramian)
