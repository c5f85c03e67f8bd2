"""First-order MAML: the base moves down the gradient that fine-tuning ends with."""

from collections.abc import Sequence

from torch import Tensor

from mtl_search.recipe import PositiveFloat, PositiveInt
from mtl_search.transfer.bases.learned import MetaLearned


class Fomaml(MetaLearned):
    """After every episode: theta <- theta - outer_lr * g, with one source task's gradient g after fine-tuning on it.

    The gradient is taken on a fresh batch, and as if the fine-tuned parameters did not depend on theta.

    Paper: Finn et al., Model-Agnostic Meta-Learning, ICML 2017, https://arxiv.org/abs/1703.03400

    Args:
        epochs: Passes over the source tasks' rows.
        batch_size: Rows of a step over all workers together.
        inner_steps: Steps of an episode before the gradient is taken.
        inner_lr: Their learning rate.
        outer_lr: Step length of the base; falls in a line to 0 over the epochs.
    """

    def __init__(
        self,
        epochs: PositiveInt = 10,
        batch_size: PositiveInt = 64,
        inner_steps: PositiveInt = 3,
        inner_lr: PositiveFloat = 0.1,
        outer_lr: PositiveFloat = 0.1,
    ) -> None:
        super().__init__(epochs, batch_size, inner_steps, inner_lr, outer_lr)

    def direction(self, start: Sequence[Tensor], end: Sequence[Tensor], gradient: Sequence[Tensor]) -> list[Tensor]:
        return list(gradient)
