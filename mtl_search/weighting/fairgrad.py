"""FairGrad: alpha-fair shares of the improvement."""

from torch import Tensor

from mtl_search.recipe import PositiveFloat
from mtl_search.weighting.fairness import fair_weights
from mtl_search.weighting.gramian import At, GramianWeighting


class FairGrad(GramianWeighting):
    """FairGrad: weights w with G w = w^(-1 / alpha), the alpha-fair division of the improvement between the tasks.

    Paper: Ban and Ji, Fair Resource Allocation in Multi-Task Learning, ICML 2024, https://arxiv.org/abs/2402.15638

    Args:
        alpha: 1 for proportional fairness, the larger the closer to helping the worst-off task only.
        at: Where the tasks' gradients are taken; "auto" for the cheapest place that fits.
    """

    def __init__(self, alpha: PositiveFloat = 2.0, at: At = "auto") -> None:
        super().__init__(at)
        self.alpha = alpha

    def _balance(self, gramian: Tensor, tasks: Tensor) -> Tensor:
        return fair_weights(gramian, self.alpha)
