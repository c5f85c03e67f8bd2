"""Random: new weights at every step."""

import torch
from torch import Tensor

from mtl_search.weighting.drawing import RandomWeighting
from mtl_search.weighting.presence import scatter_present, select_present
from mtl_search.weighting.scalarized import derivative


class Random(RandomWeighting):
    """Random weights: the softmax of standard normal numbers, drawn anew at every step, with mean 1.

    Paper: Lin et al., Reasonable Effectiveness of Random Weighting, TMLR 2022, https://arxiv.org/abs/2111.10603
    """

    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        from torchjd.scalarization import Random as Scalarizer

        values = select_present(torch.ones(len(losses)), present)
        with self._drawing():
            weights = derivative(Scalarizer(), values)
        return scatter_present(weights * len(values), present, losses)
