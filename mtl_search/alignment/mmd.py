"""Mmd: data sets are aligned by the maximum mean discrepancy of their features."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_search.alignment.base import Aligning
from mtl_search.alignment.matching import Matching, mean_distance
from mtl_search.models.alignment_point import AlignmentModule, AlignmentPoint
from mtl_search.recipe import PositiveFloat

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the kernels, relative to the mean squared distance between two rows of the batch."""
_LEAST = 1e-20


class Mmd(Aligning):
    """Multi-kernel MMD: penalises the distance between the data sets' means under a mixture of Gaussian kernels.

    k(x, y) is the mean of exp(-||x - y||^2 / (b s)) over b = 1/4, 1/2, 1, 2, 4, where s is the mean of ||x - y||^2 over
    all pairs of different rows of the batch and takes no gradient. The penalty is MMD^2 = E k(x, x') + E k(y, y') -
    2 E k(x, y) with means over all pairs of rows, a row with itself included: the biased estimate, 0 for equal samples.
    With more than two data sets it is the mean over all pairs of them. Cost: n^2 d multiply-adds for the n rows of the
    batch.

    Paper: Long et al., Learning Transferable Features with Deep Adaptation Networks, ICML 2015, https://arxiv.org/abs/1502.02791
    Paper: Gretton et al., A Kernel Two-Sample Test, JMLR 2012, https://jmlr.org/papers/v13/gretton12a.html

    Args:
        strength: Factor of the penalty.
    """

    def __init__(self, strength: PositiveFloat = 1.0) -> None:
        self.strength = strength

    def _aligner(self, alignment_points: Sequence[AlignmentPoint]) -> AlignmentModule:
        return Matching(mmd, self.strength)


def mmd(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """Mean over all pairs of data sets of their squared maximum mean discrepancy.

    Args:
        rows: (n, features), those of one data set after the other.
        sizes: Rows of each data set, two or more, none of them 0.

    Returns:
        A scalar from 0 to 2.
    """
    # Distances do not change with the origin, and far from it float32 would lose the small ones.
    centred = rows - rows.detach().mean(0)
    squares = centred.square().sum(1)
    distances = (squares[:, None] + squares - 2 * centred @ centred.T).clamp(min=0)
    count = len(rows)
    scale = distances.detach().sum() / (count * (count - 1))
    # Rows that lie closer than float32 tells apart are one point, not a cloud of rounding errors.
    floor = torch.finfo(rows.dtype).eps * rows.detach().square().sum(1).mean() + _LEAST
    scale = torch.maximum(scale, floor)
    return mean_distance(torch.stack([(-distances / (width * scale)).exp() for width in BANDWIDTHS]).mean(0), sizes)
