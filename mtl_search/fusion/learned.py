"""Learned: coefficients for each block and task, trained by gradient."""

from typing import Literal

import torch
from torch import Tensor, nn

from mtl_search.fusion.learning import LearningFusion
from mtl_search.recipe import PositiveFloat, PositiveInt


class Learned(LearningFusion):
    """Layer-wise AdaMerging: base + sum of a_t * (theta_t - base), with a_t of each block learned by Adam.

    The rows are training rows, which the single-task models have seen: validation and test rows stay unseen. The paper
    learns from the entropy of predictions on unlabelled test rows, the signal ``entropy`` here; ``labels`` is the mean
    of the task losses. They start as the plain average. Batch norm runs on batch statistics meanwhile; what a sharing
    module took from the fused blocks stays as at the start.

    Cost: ``steps`` updates of the joint stage's batch size, each with all task vectors in memory and one sum over them.

    Paper: Yang et al., AdaMerging: Adaptive Model Merging for Multi-Task Learning, ICLR 2024, https://arxiv.org/abs/2310.02575

    Args:
        signal: What the coefficients learn from; ``entropy`` is not for regressions.
        steps: Number of updates.
        lr: Learning rate of Adam.
    """

    def __init__(
        self, signal: Literal["labels", "entropy"] = "labels", steps: PositiveInt = 100, lr: PositiveFloat = 0.01
    ) -> None:
        super().__init__("fusion.learned", signal, steps, lr)

    def _gate(self, start: Tensor, features: int, generator: torch.Generator) -> nn.Module:
        return _Constant(start)


class _Constant(nn.Module):
    """The same coefficients for every batch."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(start.clone())

    def forward(self, features: Tensor) -> Tensor:
        return self.coefficients
