"""Learned gate: coefficients that a small network computes from the batch, folded into plain numbers at the end."""

from typing import Literal

import torch
from torch import Tensor, nn

from mtl_search.fusion.learning import LearningFusion
from mtl_search.recipe import PositiveFloat, PositiveInt, Width


class LearnedGate(LearningFusion):
    """Fusion by a gate: base + sum of a_t * (theta_t - base), with a = gate(mean prepared features of the batch).

    The gate has one hidden layer and learns by Adam from training rows, which the single-task models have seen; in the
    end the model gets the mean of its coefficients over the batches of an epoch, so that nothing of the gate is left at
    inference. Near to the paper, whose router stays in the model. Otherwise as ``learned``, in cost too.

    Paper: Tang et al., Merging Multi-Task Models via Weight-Ensembling Mixture of Experts, ICML 2024, https://arxiv.org/abs/2402.00433

    Args:
        width: Of the hidden layer.
        signal: What the gate learns from; ``entropy`` is not for regressions.
        steps: Number of updates.
        lr: Learning rate of Adam.
    """

    def __init__(
        self,
        width: Width = 16,
        signal: Literal["labels", "entropy"] = "labels",
        steps: PositiveInt = 100,
        lr: PositiveFloat = 0.01,
    ) -> None:
        super().__init__("fusion.learned_gate", signal, steps, lr)
        self.width = width

    def _gate(self, start: Tensor, features: int, generator: torch.Generator) -> nn.Module:
        return _Gate(start, features, self.width, generator)


class _Gate(nn.Module):
    """(features,) -> (coefficients,); at its start it gives the same for every batch."""

    def __init__(self, start: Tensor, features: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = features**-0.5
        self.hidden = nn.Parameter(torch.empty(width, features).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.zeros(width))
        self.output = nn.Parameter(torch.zeros(len(start), width))
        self.start = nn.Parameter(start.clone())

    def forward(self, features: Tensor) -> Tensor:
        return self.start + self.output @ (self.hidden @ features + self.bias).tanh()
