"""GeometricMean: relative improvements count, not absolute ones."""

from typing import TYPE_CHECKING

from mtl_search.weighting.scalarized import Scalarized

if TYPE_CHECKING:
    from torchjd.scalarization import Scalarizer


class GeometricMean(Scalarized):
    """Geometric mean of the losses: w_i is the geometric mean divided by L_i.

    Paper: Chennupati et al., MultiNet++: Geometric Loss Strategy for Multi-Task Learning, CVPRW 2019, https://arxiv.org/abs/1904.08492
    """

    def _scalarizer(self) -> "Scalarizer":
        from torchjd.scalarization import GeometricMean as Scalarizer

        return Scalarizer()
