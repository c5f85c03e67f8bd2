"""Mean: the plain average of the fine-tuned parameters."""

from collections.abc import Sequence

from torch import Tensor

from mtl_search.fusion.base import Fusion, Site, mean_tensors


class Mean(Fusion):
    """Plain average: every single-task model counts alike.

    Paper: Wortsman et al., Model Soups, ICML 2022, https://arxiv.org/abs/2203.05482
    """

    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor, at: Site) -> Tensor:
        return mean_tensors(values)
