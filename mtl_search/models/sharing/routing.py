"""Routing: the wiring of tree-like plans. Each copy runs once, on the rows of its tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

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
        super().__init__(layout.shapes[-1][0], has_representation=any(map(any, parting)))
        self._parting = parting
        above: tuple[Group, ...] = ()
        self._ways: list[list[_Way]] = []
        for level in levels:
            self._ways.append([_way(layout, group, above) for group in level])
            above = level
        self._tasks = layout.tasks

    def forward(self, blocks: Blocks, x: Tensor, sizes: Sequence[int], passing: Passing | None) -> dict[str, Tensor]:
        """Run each copy once, on exactly the rows that its tasks need."""
        outputs = [x]
        splits: Splits = {}
        for copies, ways, parting in zip(blocks, self._ways[:-1], self._parting, strict=True):
            outputs = [copy(way.input(outputs, sizes, passing, splits)) for copy, way in zip(copies, ways, strict=True)]
            if passing is not None:
                for output, tasks in zip(outputs, parting, strict=True):
                    if tasks:
                        passing.part(tasks, output)
        last = zip(self._tasks, self._ways[-1], strict=True)
        return {task: way.input(outputs, sizes, passing, splits) for task, way in last}


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
