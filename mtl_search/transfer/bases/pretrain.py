"""Pretrain: the base is trained on all source tasks at once."""

from mtl_search.recipe import Component, NonNegativeFloat, PositiveFloat, PositiveInt, Schedule
from mtl_search.transfer.bases.learned import LearnedBase


class Pretrain(LearnedBase):
    """One network trained jointly on the source tasks, all blocks shared, equal weights; its blocks are the base.

    The epoch that is best on the source tasks' validation rows counts: the mean over them of the relative gain over the
    network before training.

    Paper: Caruana, Multitask Learning, Machine Learning 1997, https://doi.org/10.1023/A:1007379606734

    Args:
        epochs: Passes over the source tasks' rows.
        batch_size: Rows of a step over all workers together.
        lr: Peak learning rate of AdamW, with cosine decay.
        weight_decay: Of AdamW.
    """

    def __init__(
        self,
        epochs: PositiveInt = 10,
        batch_size: PositiveInt = 64,
        lr: PositiveFloat = 1e-3,
        weight_decay: NonNegativeFloat = 0.01,
    ) -> None:
        optimizer = Component("adamw", {"lr": lr, "weight_decay": weight_decay})
        self.schedule = Schedule(epochs=epochs, batch_size=batch_size, optimizer=optimizer)
