"""Learned bases: those that the pool itself trains on the study's source tasks before any target task is seen.

``training.stages`` carries a ``pretrain`` stage out as its base says: by joint training, or by ``training.meta``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

from torch import Tensor

from mtl_search.recipe import Component, Schedule
from mtl_search.transfer.bases.base import Base, Fetch


class LearnedBase(Base, ABC):
    """A base that is trained on source tasks, from random parameters.

    Attributes:
        schedule: How long, in what batches and with which optimiser.
    """

    schedule: Schedule

    @final
    def _state(self, fresh: dict[str, Tensor], fetch: Fetch) -> dict[str, Tensor]:
        return fresh


class MetaLearned(LearnedBase, ABC):
    """A base from which a few steps on any one source task go far: episodes of fine-tuning, and a step after each.

    An episode takes one source task, all in turn, and makes ``inner_steps`` steps of gradient descent on batches of it;
    the base then moves as ``direction`` says. An epoch has as many episodes as the source tasks have batches for.

    Args:
        epochs: Passes over the source tasks' rows.
        batch_size: Rows of a step over all workers together.
        inner_steps: Steps of an episode.
        inner_lr: Their learning rate.
        outer_lr: Step length of the base after an episode; falls in a line to 0 over the epochs.
    """

    def __init__(self, epochs: int, batch_size: int, inner_steps: int, inner_lr: float, outer_lr: float) -> None:
        inner = Component("sgd", {"lr": inner_lr, "momentum": 0.0})
        falling = Component("linear")
        self.schedule = Schedule(epochs=epochs, batch_size=batch_size, optimizer=inner, decay=falling)
        self.inner_steps, self.inner_lr, self.outer_lr = inner_steps, inner_lr, outer_lr

    @abstractmethod
    def direction(self, start: Sequence[Tensor], end: Sequence[Tensor], gradient: Sequence[Tensor]) -> list[Tensor]:
        """What to take off the base, times the outer learning rate.

        Args:
            start: The base's parameters before the episode.
            end: Those after it.
            gradient: Of the task's loss on a fresh batch at ``end``.

        Returns:
            A tensor for each parameter.
        """
