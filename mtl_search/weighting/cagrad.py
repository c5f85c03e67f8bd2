"""CaGrad: near the mean gradient, the update that helps the worst-off task most."""

from torch import Tensor

from mtl_search.recipe import ProperFraction
from mtl_search.weighting.gramian import At, GramianWeighting
from mtl_search.weighting.solvers import require


class CaGrad(GramianWeighting):
    """CAGrad: the update in a ball around the mean gradient that improves the least improved task most.

    At a point where some mixture of the gradients is 0, all weights are 0. Needs the extra ``solvers``.

    Paper: Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning, NeurIPS 2021, https://arxiv.org/abs/2110.14048

    Args:
        c: Radius of the ball over the length of the mean gradient; 0 for the mean itself.
        at: Where the tasks' gradients are taken; "auto" for the cheapest place that fits.

    Raises:
        ConfigError: The solver is not installed.
    """

    def __init__(self, c: ProperFraction = 0.4, at: At = "auto") -> None:
        super().__init__(at)
        require("cagrad", "cvxpy", "clarabel")
        self.c = c

    def _balance(self, gramian: Tensor, tasks: Tensor) -> Tensor:
        from torchjd.aggregation import CAGradWeighting

        return len(gramian) * CAGradWeighting(self.c)(gramian)
