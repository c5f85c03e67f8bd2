"""Reptile: the base moves towards what fine-tuning makes of it."""

from collections.abc import Sequence

from torch import Tensor

from mtl_search.recipe import PositiveFloat, PositiveInt
from mtl_search.transfer.bases.learned import MetaLearned


class Reptile(MetaLearned):
    """After every episode: theta <- theta + outer_lr * (phi - theta), phi the parameters fine-tuned on one source task.

    Paper: Nichol et al., On First-Order Meta-Learning Algorithms, 2018, https://arxiv.org/abs/1803.02999

    Args:
        epochs: Passes over the source tasks' rows.
        batch_size: Rows of a step over all workers together.
        inner_steps: Steps of an episode; with one it is joint training.
        inner_lr: Their learning rate.
        outer_lr: Share of the way to go; falls in a line to 0 over the epochs.
    """

    def __init__(
        self,
        epochs: PositiveInt = 10,
        batch_size: PositiveInt = 64,
        inner_steps: PositiveInt = 5,
        inner_lr: PositiveFloat = 0.1,
        outer_lr: PositiveFloat = 0.5,
    ) -> None:
        super().__init__(epochs, batch_size, inner_steps, inner_lr, outer_lr)

    def direction(self, start: Sequence[Tensor], end: Sequence[Tensor], gradient: Sequence[Tensor]) -> list[Tensor]:
        return [before - after for before, after in zip(start, end, strict=True)]
