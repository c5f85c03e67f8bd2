"""SharingPlan and Sharing: which parameters the tasks have in common, block by block.

A recipe's ``sharing`` component makes the plan; ``models.multitask`` builds the model from it and ``fusion.apply`` the
model's starting parameters.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from mtl_search.errors import ConfigError, Problem

Group = tuple[str, ...]


@dataclass(frozen=True)
class SharingPlan:
    """Per block a partition of the tasks; the tasks of a group use the same copy of the block.

    Each block's partition refines the one before it: tasks that part never meet again, so the plan is a tree (or, with
    several groups at the first block, a forest).

    Attributes:
        groups: For each block its groups, for each group its tasks.

    Raises:
        ConfigError: A block's groups are no partition of the tasks, or do not refine the block before.
    """

    groups: tuple[tuple[Group, ...], ...]

    def __post_init__(self) -> None:
        if not self.groups or not self.tasks:
            raise ConfigError([Problem("sharing", "a plan must have at least one block and one task", self.groups)])
        previous: tuple[Group, ...] = (self.tasks,)
        for number, block in enumerate(self.groups, 1):
            members = [task for group in block for task in group]
            if sorted(members) != sorted(set(self.tasks)) or not all(block):
                raise ConfigError([Problem("sharing", f"block {number} must have every task in one group", block)])
            if not all(any(set(group) <= set(parent) for parent in previous) for group in block):
                rule = f"block {number} must not join tasks that an earlier block has parted"
                raise ConfigError([Problem("sharing", rule, block)])
            previous = block

    @classmethod
    def separate(cls, tasks: Sequence[str], blocks: int) -> "SharingPlan":
        """Nothing shared: one group per task at every block. With one task, the plan of a single-task model."""
        return cls(tuple(tuple((task,) for task in tasks) for _ in range(blocks)))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task, in the order of the first block."""
        return tuple(task for group in self.groups[0] for task in group)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.groups)

    @property
    def shared_depth(self) -> int:
        """Number of leading blocks that all tasks have in common."""
        return sum(len(block) == 1 for block in self.groups)

    def shared(self, block: int) -> tuple[int, ...]:
        """Indices of the block's groups that have two tasks or more."""
        return tuple(i for i, group in enumerate(self.groups[block]) if len(group) > 1)

    def group_of(self, block: int, task: str) -> int:
        """Index of the block's group that the task belongs to."""
        return next(i for i, group in enumerate(self.groups[block]) if task in group)

    def __str__(self) -> str:
        """One block after the other, e.g. ``a+b+c > a+b+c > a+b | c``."""
        return " > ".join(" | ".join("+".join(group) for group in block) for block in self.groups)


class Sharing(ABC):
    """A way to share parameters between tasks; the constructor's signature is its schema in the study file."""

    @final
    def plan(self, tasks: Sequence[str], blocks: int) -> SharingPlan:
        """The plan for a backbone of so many blocks.

        Args:
            tasks: Task names in the study's order.
            blocks: Number of blocks of the backbone.

        Returns:
            The plan, tasks within a group in the study's order and groups by their first task.

        Raises:
            ConfigError: The parameters do not fit the backbone or the tasks.
        """
        plan = self._plan(tuple(tasks), blocks)
        if plan.blocks != blocks:
            raise ConfigError([Problem("sharing", f"must give a plan for {blocks} blocks", plan.blocks)])
        if sorted(plan.tasks) != sorted(tasks):
            raise ConfigError([Problem("sharing", "must give a plan for the study's tasks", plan.tasks, tuple(tasks))])
        place = {task: index for index, task in enumerate(tasks)}
        ordered = ([tuple(sorted(group, key=place.__getitem__)) for group in block] for block in plan.groups)
        return SharingPlan(tuple(tuple(sorted(block, key=lambda group: place[group[0]])) for block in ordered))

    @abstractmethod
    def _plan(self, tasks: tuple[str, ...], blocks: int) -> SharingPlan:
        """Partition the tasks at every block."""
