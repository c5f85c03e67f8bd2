"""Routing: the wiring of tree-like plans. Each copy runs once, on the rows of its tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from mtl_search.errors import ConfigError, Problem
from mtl_search.models.forward_context import ForwardContext
from mtl_search.models.sharing.plan import Group
from mtl_search.models.sharing.sharing_module import Blocks, ModelLayout, SharingModule, Splits, select_datasets


@dataclass(frozen=True)
class Edge:
    """Where the input of a copy or a head comes from.

    Attributes:
        parent: Index of the copy of the block before.
        have: The data sets in what that copy gives.
        want: Those that are needed.
        leaf: The task whose own part begins here, if one does.
    """

    parent: int
    have: tuple[int, ...]
    want: tuple[int, ...]
    leaf: str | None

    def input(
        self, outputs: Sequence[Tensor], sizes: Sequence[int], context: ForwardContext | None, splits: Splits
    ) -> Tensor:
        """The rows that are needed of what the parent gives."""
        source = outputs[self.parent]
        if context is not None and self.leaf is not None:
            (source,) = context.own(self.leaf)
        return select_datasets(source, sizes, self.have, self.want, splits)


@final
class TreeSharing(SharingModule):
    """Every copy of a block feeds the copies of the next block whose tasks it has, and at last their heads.

    Tasks part ways at the output of the last copy that they have in common; in a tree of several levels a task has a
    boundary at every level. What tasks have in common before the first block, the input, is no boundary.

    Raises:
        ConfigError: The plan is no tree.
    """

    def __init__(self, layout: ModelLayout) -> None:
        plan = layout.plan
        if not plan.tree:
            raise ConfigError([Problem("sharing", "must plan a tree, or say how its copies are coupled", str(plan))])
        heads = tuple((task,) for task in layout.tasks)
        levels = [*plan.groups, heads]
        parting = [[_datasets_that_part(group, below) for group in above] for above, below in pairwise(levels)]
        task_datasets = [[layout.datasets_of(group) for group in groups] for groups in plan.groups]
        super().__init__(
            layout.shapes[-1][0],
            has_representation=any(map(any, parting)),
            skippable_blocks=_skippable_blocks(task_datasets, parting, layout.datasets),
        )
        self._parting, self._have, self._batch = parting, task_datasets, layout.batch
        above: tuple[Group, ...] = ()
        self._ways: list[list[Edge]] = []
        for level in levels:
            self._ways.append([_edge(layout, group, above) for group in level])
            above = level
        self._tasks = layout.tasks

    def forward(
        self, blocks: Blocks, x: Tensor, sizes: Sequence[int], context: ForwardContext | None, start_block: int = 0
    ) -> dict[str, Tensor]:
        """Run each copy once, on exactly the rows that its tasks need."""
        outputs, splits = self._entered(x, sizes, start_block), Splits()
        for level in range(start_block, len(blocks) + 1):
            if context is not None and level:
                for output, tasks in zip(outputs, self._parting[level - 1], strict=True):
                    if tasks:
                        context.part(tasks, output)
            if level < len(blocks):
                outputs = self._level(level, blocks, outputs, sizes, context, splits)
        last = zip(self._tasks, self._ways[-1], strict=True)
        return {task: way.input(outputs, sizes, context, splits) for task, way in last}

    def run_prefix(self, blocks: Blocks, x: Tensor, sizes: Sequence[int], start_block: int) -> Tensor:
        outputs, splits = [x], Splits()
        for level in range(start_block):
            outputs = self._level(level, blocks, outputs, sizes, None, splits)
        if len(outputs) == 1:
            return outputs[0]
        ends = {
            dataset: select_datasets(output, sizes, have, (dataset,), splits)
            for output, have in zip(outputs, self._have[start_block - 1], strict=True)
            for dataset in have
        }
        return torch.cat([ends[dataset] for dataset in self._batch])

    def _level(
        self,
        level: int,
        blocks: Blocks,
        outputs: Sequence[Tensor],
        sizes: Sequence[int],
        context: ForwardContext | None,
        splits: Splits,
    ) -> list[Tensor]:
        """What every copy of a block gives, from what those of the block before gave."""
        ways = zip(blocks[level], self._ways[level], strict=True)
        return [copy(way.input(outputs, sizes, context, splits)) for copy, way in ways]

    def _entered(self, x: Tensor, sizes: Sequence[int], start_block: int) -> list[Tensor]:
        """What the copies of the last block before the entry gave."""
        if not start_block or len(self._have[start_block - 1]) == 1:
            return [x]
        # Copied, so that each begins where memory is aligned, as a block's own output does: kernels differ.
        return [select_datasets(x, sizes, self._batch, have).clone() for have in self._have[start_block - 1]]


def _skippable_blocks(
    task_datasets: Sequence[Sequence[tuple[int, ...]]], parting: Sequence[Sequence[Group]], datasets: int
) -> int:
    """Number of leading blocks through which every data set goes one way, and before whose end no tasks part."""
    depth = 0
    for level, of_copies in enumerate(task_datasets):
        # A boundary inside what is left out would be missed by those that balance the tasks' gradients.
        if sum(map(len, of_copies)) != datasets or (level and any(parting[level - 1])):
            break
        depth += 1
    return depth


def _datasets_that_part(group: Group, below: Sequence[Group]) -> Group:
    """The group's tasks, if some of them go another way than the others."""
    together = any(set(group) <= set(child) for child in below)
    return () if together else group


def _edge(layout: ModelLayout, group: Group, above: Sequence[Group]) -> Edge:
    want = layout.datasets_of(group)
    if not above:
        return Edge(0, layout.batch, want, None)
    parent = next(i for i, members in enumerate(above) if group[0] in members)
    leaf = group[0] if len(group) == 1 < len(above[parent]) else None
    return Edge(parent, layout.datasets_of(above[parent]), want, leaf)
