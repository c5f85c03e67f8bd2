"""Mgda: the shortest of all mixtures of the gradients."""

import torch
from torch import Tensor

from mtl_search.recipe import PositiveFloat, PositiveInt
from mtl_search.weighting.gramian import At, GramianWeighting

_EVEN = 1e-9
"""Added to the diagonal: among mixtures of equal length the most even one is taken."""


class Mgda(GramianWeighting):
    """MGDA: the convex combination of the gradients with the smallest norm; no task's loss rises along it.

    Paper: Sener and Koltun, Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018, https://arxiv.org/abs/1810.04650

    Args:
        epsilon: Step of the Frank-Wolfe solver below which it stops.
        iterations: Its largest number of steps.
        at: Where the tasks' gradients are taken; "auto" for the cheapest place that fits.
    """

    def __init__(self, epsilon: PositiveFloat = 1e-3, iterations: PositiveInt = 100, at: At = "auto") -> None:
        super().__init__(at)
        self.epsilon = epsilon
        self.iterations = iterations

    def _balance(self, gramian: Tensor, tasks: Tensor) -> Tensor:
        from torchjd.aggregation import MGDAWeighting

        count = len(gramian)
        return count * MGDAWeighting(self.epsilon, self.iterations)(gramian + _EVEN * torch.eye(count))
