"""Frozen: new tasks on a trunk that stays as it is."""

from collections.abc import Mapping
from typing import Any, ClassVar

from mtl_search.extension.base import Extension, ExtensionData
from mtl_search.extension.own_parts import train_own_parts
from mtl_search.models.branching import Blueprint
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import NonNegativeInt


class Frozen(Extension):
    """Frozen trunk: only what a new task has for itself is trained, so old predictions stay the same, bit for bit.

    Each new task is trained alone, to its own best epoch on validation, on features that are computed once.

    Args:
        like: Old task whose way through the blocks a new one follows, one for all or one by new task; may be left out
            where the old tasks share all blocks.
        depth: Number of blocks that it has in common with that task; it gets its own copies of those above. None for
            all blocks: the new task gets a head alone.
    """

    keeps: ClassVar[bool] = True
    usual: ClassVar[Mapping[str, Any]] = {"epochs": 50, "batch_size": 32, "optimizer": {"adamw": {"lr": 0.01}}}

    def __init__(self, like: str | dict[str, str] | None = None, depth: NonNegativeInt | None = None) -> None:
        super().__init__(like, depth)

    def train(
        self, model: MultiTaskModel, old: MultiTaskModel, grown: Blueprint, extension_data: ExtensionData
    ) -> dict[str, int]:
        """Train each new task's own part."""
        return {
            growth.task: train_own_parts(model, growth, extension_data, extension_data.schedule)
            for growth in grown.task_branches
            if growth.task in extension_data.new
        }
