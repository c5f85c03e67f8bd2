"""ImtlG: impartial learning by gradients."""

from torch import Tensor

from mtl_search.weighting.gramian import GramianWeighting


class ImtlG(GramianWeighting):
    """IMTL-G: the update has the same projection on every task's gradient direction; weights may be negative.

    Paper: Liu et al., Towards Impartial Multi-task Learning, ICLR 2021, https://openreview.net/forum?id=IMPnRXEWpvr

    Args:
        at: Where the tasks' gradients are taken; "auto" for the cheapest place that fits.
    """

    def _balance(self, gramian: Tensor, tasks: Tensor) -> Tensor:
        from torchjd.aggregation import IMTLGWeighting

        return len(gramian) * IMTLGWeighting()(gramian)
