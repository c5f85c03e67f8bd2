"""AlignedMtl: gradients made orthogonal and equally long before they are added up."""

from typing import Literal

from torch import Tensor

from mtl_search.weighting.gramian import At, GramianWeighting


class AlignedMtl(GramianWeighting):
    """Aligned-MTL: the gradients' principal components brought to one length, then the mean; weights may be negative.

    Paper: Senushkin et al., Independent Component Alignment for Multi-Task Learning, CVPR 2023, https://arxiv.org/abs/2305.19000

    Args:
        scale_mode: That length: of the shortest component, of the median one, or their root mean square.
        at: Where the tasks' gradients are taken; "auto" for the cheapest place that fits.
    """

    def __init__(self, scale_mode: Literal["min", "median", "rmse"] = "min", at: At = "auto") -> None:
        super().__init__(at)
        self.scale_mode: Literal["min", "median", "rmse"] = scale_mode

    def _balance(self, gramian: Tensor, tasks: Tensor) -> Tensor:
        from torchjd.aggregation import AlignedMTLWeighting

        return len(gramian) * AlignedMTLWeighting(scale_mode=self.scale_mode)(gramian)
