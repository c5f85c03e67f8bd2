"""Routing: the wiring of tree-like plans. Each copy runs once, on the rows of its tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from mtl_search.errors import ConfigError, Problem
from mtl_search.models.passing import Passing
from mtl_search.models.sharing.coupling import Blocks, Coupling, Layout, Splits, take
from mtl_search.models.sharing.plan import Group


@dataclass(frozen=True)
class _Way:
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

    def input(self, outputs: Sequence[Tensor], sizes: Sequence[int], passing: Passing | None, splits: Splits) -> Tensor:
        """The rows that are needed of what the parent gives."""
        source = outputs[self.parent]
        if passing is not None and self.leaf is not None:
            (source,) = passing.own(self.leaf)
        return take(source, sizes, self.have, self.want, splits)


@final
class Routing(Coupling):
    """Every copy of a block feeds the copies of the next block whose tasks it has, and at last their heads.

    Tasks part ways at the output of the last copy that they have in common; in a tree of several levels a task has a
    boundary at every level. What tasks have in common before the first block, the input, is no boundary.

    Raises:
        ConfigError: The plan is no tree.
    """

    def __init__(self, layout: Layout) -> None:
        plan = layout.plan
        if not plan.tree:
            raise ConfigError([Problem("sharing", "must plan a tree, or say how its copies are coupled", str(plan))])
        heads = tuple((task,) for task in layout.tasks)
        levels = [*plan.groups, heads]
        parting = [[_parting(group, below) for group in above] for above, below in pairwise(levels)]
        homes = [[layout.datasets_of(group) for group in groups] for groups in plan.groups]
        super().__init__(
            layout.shapes[-1][0],
            has_representation=any(map(any, parting)),
            entrance=_entrance(homes, parting, layout.datasets),
        )
        self._parting, self._have, self._batch = parting, homes, layout.batch
        above: tuple[Group, ...] = ()
        self._ways: list[list[_Way]] = []
        for level in levels:
            self._ways.append([_way(layout, group, above) for group in level])
            above = level
        self._tasks = layout.tasks

    def forward(
        self, blocks: Blocks, x: Tensor, sizes: Sequence[int], passing: Passing | None, entry: int = 0
    ) -> dict[str, Tensor]:
        """Run each copy once, on exactly the rows that its tasks need."""
        outputs, splits = self._entered(x, sizes, entry), Splits()
        for level in range(entry, len(blocks) + 1):
            if passing is not None and level:
                for output, tasks in zip(outputs, self._parting[level - 1], strict=True):
                    if tasks:
                        passing.part(tasks, output)
            if level < len(blocks):
                outputs = self._level(level, blocks, outputs, sizes, passing, splits)
        last = zip(self._tasks, self._ways[-1], strict=True)
        return {task: way.input(outputs, sizes, passing, splits) for task, way in last}

    def approach(self, blocks: Blocks, x: Tensor, sizes: Sequence[int], entry: int) -> Tensor:
        outputs, splits = [x], Splits()
        for level in range(entry):
            outputs = self._level(level, blocks, outputs, sizes, None, splits)
        if len(outputs) == 1:
            return outputs[0]
        ends = {
            dataset: take(output, sizes, have, (dataset,), splits)
            for output, have in zip(outputs, self._have[entry - 1], strict=True)
            for dataset in have
        }
        return torch.cat([ends[dataset] for dataset in self._batch])

    def _level(
        self,
        level: int,
        blocks: Blocks,
        outputs: Sequence[Tensor],
        sizes: Sequence[int],
        passing: Passing | None,
        splits: Splits,
    ) -> list[Tensor]:
        """What every copy of a block gives, from what those of the block before gave."""
        ways = zip(blocks[level], self._ways[level], strict=True)
        return [copy(way.input(outputs, sizes, passing, splits)) for copy, way in ways]

    def _entered(self, x: Tensor, sizes: Sequence[int], entry: int) -> list[Tensor]:
        """What the copies of the last block before the entry gave."""
        if not entry or len(self._have[entry - 1]) == 1:
            return [x]
        # Copied, so that each begins where memory is aligned, as a block's own output does: kernels differ.
        return [take(x, sizes, self._batch, have).clone() for have in self._have[entry - 1]]


def _entrance(homes: Sequence[Sequence[tuple[int, ...]]], parting: Sequence[Sequence[Group]], datasets: int) -> int:
    """Number of leading blocks through which every data set goes one way, and before whose end no tasks part."""
    depth = 0
    for level, of_copies in enumerate(homes):
        # A boundary inside what is left out would be missed by those that balance the tasks' gradients.
        if sum(map(len, of_copies)) != datasets or (level and any(parting[level - 1])):
            break
        depth += 1
    return depth


def _parting(group: Group, below: Sequence[Group]) -> Group:
    """The group's tasks, if some of them go another way than the others."""
    together = any(set(group) <= set(child) for child in below)
    return () if together else group


def _way(layout: Layout, group: Group, above: Sequence[Group]) -> _Way:
    want = layout.datasets_of(group)
    if not above:
        return _Way(0, layout.batch, want, None)
    parent = next(i for i, members in enumerate(above) if group[0] in members)
    leaf = group[0] if len(group) == 1 < len(above[parent]) else None
    return _Way(parent, layout.datasets_of(above[parent]), want, leaf)
