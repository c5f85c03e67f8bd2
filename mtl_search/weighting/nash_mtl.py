"""NashMtl: the bargain that the tasks would strike about the update."""

from torch import Tensor

from mtl_search.weighting.fairness import fair_weights
from mtl_search.weighting.gramian import GramianWeighting


class NashMtl(GramianWeighting):
    """Nash-MTL: weights w with (G w)_i = 1 / w_i, the Nash bargaining solution.

    Solved anew, and exactly, at every step. The paper's limit on the update's length is left out: clipping is the
    schedule's (``clip_norm``).

    Paper: Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022, https://arxiv.org/abs/2202.01017

    Args:
        at: Where the tasks' gradients are taken; "auto" for the cheapest place that fits.
    """

    def _balance(self, gramian: Tensor, tasks: Tensor) -> Tensor:
        return fair_weights(gramian, alpha=1.0)
