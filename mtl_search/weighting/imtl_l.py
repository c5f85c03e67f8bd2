"""ImtlL: impartial learning by losses."""

from typing import TYPE_CHECKING

from mtl_search.recipe import PositiveFloat
from mtl_search.weighting.scalarized import LearnedScales

if TYPE_CHECKING:
    from torchjd.scalarization import Scalarizer


class ImtlL(LearnedScales):
    """IMTL-L: w_i = exp(s_i), learned so that all scaled losses tend to 1.

    Paper: Liu et al., Towards Impartial Multi-task Learning, ICLR 2021, https://openreview.net/forum?id=IMPnRXEWpvr

    Args:
        lr: Learning rate of the logarithms of the weights (Adam).
    """

    def __init__(self, lr: PositiveFloat = 0.01) -> None:
        super().__init__(lr)

    def _scalarizer(self, count: int) -> "Scalarizer":
        from torchjd.scalarization import IMTLL

        return IMTLL(count)

    def _scale(self) -> float:
        return 1.0
