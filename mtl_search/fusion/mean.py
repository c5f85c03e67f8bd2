"""Mean: the plain average of the fine-tuned parameters."""

from collections.abc import Sequence

from torch import Tensor

from mtl_search.fusion.base import Fusion


class Mean(Fusion):
    """Plain average: every single-task model counts alike.

    Paper: Wortsman et al., Model Soups, ICML 2022, https://arxiv.org/abs/2203.05482
    """

    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor) -> Tensor:
        total = values[0].clone()
        for value in values[1:]:
            total += value
        return total / len(values)
