"""Uncertainty: weights learned as the tasks' noise."""

from typing import TYPE_CHECKING

from mtl_search.recipe import PositiveFloat
from mtl_search.weighting.scalarized import LearnedScales

if TYPE_CHECKING:
    from torchjd.scalarization import Scalarizer


class Uncertainty(LearnedScales):
    """Uncertainty weighting: w_i = exp(-s_i), s_i the learned log-variance of task i; w_i tends to 1 / L_i.

    Paper: Kendall et al., Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018, https://arxiv.org/abs/1705.07115

    Args:
        lr: Learning rate of the log-variances (Adam).
    """

    def __init__(self, lr: PositiveFloat = 0.01) -> None:
        super().__init__(lr)

    def _scalarizer(self, count: int) -> "Scalarizer":
        from torchjd.scalarization import UW

        return UW(count)

    def _scale(self) -> float:
        return 2.0
