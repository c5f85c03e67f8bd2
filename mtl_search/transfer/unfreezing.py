"""Unfreezing: in which epoch of a stage each block begins to learn.

A schedule's ``unfreezing`` component constructs one; ``training.freezing`` holds the blocks still until then. Heads,
and what a sharing learns beside its blocks (adapters, gates, mixtures), learn from the first epoch on.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

from mtl_search.recipe import PositiveInt
from mtl_search.variants.building import Equal

Copy = tuple[int, bool]
"""A copy of a block: the block's number, from 1, and whether several tasks use it."""


class Unfreezing(ABC):
    """When blocks begin to learn; the constructor's signature is its schema in the study file.

    A block that has begun goes on to the end of the stage.
    """

    @final
    def start(self, block: int, blocks: int, *, shared: bool) -> int | None:
        """The first epoch in which a copy of a block learns.

        Args:
            block: Its number, from 1, the one that takes the input.
            blocks: How many there are.
            shared: Whether several tasks use this copy; true in a single-task model.

        Returns:
            The epoch, from 1; None for never.

        Raises:
            ValueError: There is no such block.
        """
        if not 1 <= block <= blocks:
            raise ValueError(f"block must be from 1 to {blocks}, got {block}")
        return self._start(blocks - block, shared)

    def simpler(self, copies: Sequence[Copy], blocks: int, epochs: int) -> Equal["Unfreezing"] | None:
        """A simpler unfreezing with the same effect; None where there is none.

        Args:
            copies: Every copy of a block: the block's number, and whether several tasks use it.
            blocks: Number of blocks.
            epochs: Length of the stage, at least 1.
        """
        starts = [self.start(block, blocks, shared=shared) for block, shared in copies]
        if all(start is None or start > epochs for start in starts):
            return Never, {}
        return (All, {}) if all(start == 1 for start in starts) else None

    @abstractmethod
    def _start(self, above: int, shared: bool) -> int | None:
        """The first epoch for a copy that so many blocks part from the heads."""


class All(Unfreezing):
    """Everything learns from the start."""

    def _start(self, above: int, shared: bool) -> int | None:
        return 1


class Shared(Unfreezing):
    """Blocks that tasks share are frozen at first; in a single-task model these are all blocks.

    Args:
        epochs: For how long.
    """

    def __init__(self, epochs: PositiveInt = 1) -> None:
        self.epochs = epochs

    def simpler(self, copies: Sequence[Copy], blocks: int, epochs: int) -> Equal[Unfreezing] | None:
        """The heads first, where every copy is shared."""
        found = super().simpler(copies, blocks, epochs)
        return found or ((HeadsFirst, {"epochs": self.epochs}) if all(shared for _, shared in copies) else None)

    def _start(self, above: int, shared: bool) -> int | None:
        return self.epochs + 1 if shared else 1


class HeadsFirst(Unfreezing):
    """Linear probing, then fine-tuning: the heads alone, then everything.

    Paper: Kumar et al., Fine-Tuning can Distort Pretrained Features, ICLR 2022, https://arxiv.org/abs/2202.10054

    Args:
        epochs: Of the heads alone.
    """

    def __init__(self, epochs: PositiveInt = 1) -> None:
        self.epochs = epochs

    def _start(self, above: int, shared: bool) -> int | None:
        return self.epochs + 1


class Gradual(Unfreezing):
    """Gradual unfreezing from the top: the heads alone, then one more block every few epochs.

    Paper: Howard and Ruder, Universal Language Model Fine-tuning, ACL 2018, https://arxiv.org/abs/1801.06146

    Args:
        epochs: Between one block and the next below it, and before the topmost.
    """

    def __init__(self, epochs: PositiveInt = 1) -> None:
        self.epochs = epochs

    def simpler(self, copies: Sequence[Copy], blocks: int, epochs: int) -> Equal[Unfreezing] | None:
        """The heads first, where there is one block."""
        found = super().simpler(copies, blocks, epochs)
        return found or ((HeadsFirst, {"epochs": self.epochs}) if blocks == 1 else None)

    def _start(self, above: int, shared: bool) -> int | None:
        return self.epochs * (above + 1) + 1


class Never(Unfreezing):
    """Blocks stay as they are; the heads alone learn."""

    def _start(self, above: int, shared: bool) -> int | None:
        return None
