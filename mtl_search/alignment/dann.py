"""Dann: data sets are aligned by a discriminator that the shared layers learn to mislead."""

from collections.abc import Sequence
from math import exp
from typing import final

import torch
from torch import nn

from mtl_search.alignment.base import Aligning
from mtl_search.models.alignment_point import AlignmentModule, AlignmentPoint
from mtl_search.models.forward_context import ForwardContext
from mtl_search.models.sharing.discriminator import Discriminator
from mtl_search.recipe import PositiveFloat, WidthOrZero


class Dann(Aligning):
    """DANN: a discriminator learns which data set a row is from, and reversed gradients make the shared layers hide it.

    The discriminator tells all data sets from each other. Its cross-entropy is the mean over the rows of the global
    batch, and it learns at full strength; the shared layers get its gradient times -``strength`` * lambda_p. At the
    share p of the joint stage that is done, lambda_p = 2 / (1 + exp(-``gamma`` p)) - 1, which goes from 0 towards 1: a
    discriminator that knows nothing yet moves nothing. The two play a game that momentum makes go round in circles:
    ``sgd`` without it is kinder than ``adamw``.

    Paper: Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 2016, https://arxiv.org/abs/1505.07818

    Args:
        strength: Factor of the reversed gradient at the end of the schedule.
        gamma: How fast the schedule rises.
        hidden: Units of the discriminator's hidden layer; 0 for none.
    """

    def __init__(
        self,
        strength: PositiveFloat = 1.0,
        gamma: PositiveFloat = 10.0,
        hidden: WidthOrZero = 100,
    ) -> None:
        self.strength = strength
        self.gamma = gamma
        self.hidden = hidden

    def _aligner(self, alignment_points: Sequence[AlignmentPoint]) -> AlignmentModule:
        return _Adversary(alignment_points, self.strength, self.gamma, self.hidden)


@final
class _Adversary(AlignmentModule):
    """``discriminators.{number}`` for every meeting."""

    def __init__(self, alignment_points: Sequence[AlignmentPoint], strength: float, gamma: float, hidden: int) -> None:
        super().__init__()
        self._strength, self._gamma = strength, gamma
        self._tasks = [sorted(alignment_point.tasks) for alignment_point in alignment_points]
        self.discriminators = nn.ModuleList(
            Discriminator(alignment_point.rows.shape[1], len(alignment_point.datasets), hidden)
            for alignment_point in alignment_points
        )
        self.initialise(0)

    def forward(self, alignment_points: Sequence[AlignmentPoint], context: ForwardContext) -> None:
        reversal = self._strength * reversal_at(context.progress, self._gamma)
        for alignment_point, discriminator in zip(alignment_points, self.discriminators, strict=True):
            # Without the global batch's rows, this rank's are the batch.
            total = (
                sum(context.global_rows[i] for i in alignment_point.datasets)
                if context.global_rows
                else len(alignment_point.rows)
            )
            with torch.autocast(alignment_point.rows.device.type, enabled=False):
                context.penalise(discriminator(alignment_point.rows, alignment_point.sizes, reversal) / max(total, 1))

    def initialise(self, seed: int) -> None:
        for tasks, discriminator in zip(self._tasks, self.discriminators, strict=True):
            assert isinstance(discriminator, Discriminator)
            discriminator.initialise(seed, "alignment", tasks)


def reversal_at(progress: float, gamma: float) -> float:
    """Strength of the reversal, from 0 towards 1.

    Args:
        progress: Share of the stage's steps that is done, in [0, 1).
        gamma: How fast it rises.
    """
    return 2 / (1 + exp(-gamma * progress)) - 1
