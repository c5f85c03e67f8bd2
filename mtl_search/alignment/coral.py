"""Coral: data sets are aligned by the covariances of their features."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_search.alignment.base import Aligning
from mtl_search.alignment.matching import Matching, mean_distance
from mtl_search.models.alignment_point import AlignmentModule, AlignmentPoint
from mtl_search.recipe import PositiveFloat


class Coral(Aligning):
    """CORAL: penalises how the covariances of the data sets' features differ.

    For two data sets with covariances C_S and C_T (divided by n - 1) of d features, ||C_S - C_T||_F^2 / (4 d^2); with
    more, the mean over all pairs. Means are left alone. A data set of one row in the batch has no spread, and so the
    covariance 0. Cost: n^2 d multiply-adds for the n rows of the batch, whatever the number of data sets.

    Paper: Sun and Saenko, Deep CORAL, ECCV workshops 2016, https://arxiv.org/abs/1607.01719

    Args:
        strength: Factor of the penalty.
    """

    def __init__(self, strength: PositiveFloat = 1.0) -> None:
        self.strength = strength

    def _aligner(self, alignment_points: Sequence[AlignmentPoint]) -> AlignmentModule:
        return Matching(coral, self.strength)


def coral(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """Mean over all pairs of data sets of the squared distance between their covariances.

    Args:
        rows: (n, features), those of one data set after the other.
        sizes: Rows of each data set, two or more, none of them 0.

    Returns:
        A scalar: ||C_S - C_T||_F^2 / (4 features^2) for two data sets.
    """
    # <C_S, C_T> is the mean of the squared products of scaled rows: no matrix of features by features is needed.
    parts = torch.split(rows, list(sizes))
    scaled = [(part - part.mean(0)) * (len(part) / max(len(part) - 1, 1)) ** 0.5 for part in parts]
    centred = torch.cat(scaled)
    return mean_distance((centred @ centred.T).square(), sizes) / (4 * rows.shape[1] ** 2)
