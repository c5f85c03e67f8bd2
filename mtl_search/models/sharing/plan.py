"""SharingPlan: which tasks use which copy of each block, and what each copy starts from.

A recipe's ``sharing`` component makes it; ``models.multitask`` builds the copies, a ``SharingModule`` wires them, and
``fusion.apply`` makes their starting parameters.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from mtl_search.errors import ConfigError, Problem

Group = tuple[str, ...]


@dataclass(frozen=True)
class SharingPlan:
    """Per block its copies, and for each copy the tasks that use it.

    Attributes:
        groups: For each block its copies, for each copy the tasks whose rows pass through it.
        starts: As ``groups``: the tasks whose fine-tuned parameters are fused into the copy's start. The groups
            themselves where left out.
        tree: Whether each block's groups are a partition of the tasks that refines the one before: tasks that part
            never meet again (with several groups at the first block, a forest).

    Raises:
        ConfigError: A block lacks a task, starts and groups do not go together, or the plan is no tree but says so.
    """

    groups: tuple[tuple[Group, ...], ...]
    starts: tuple[tuple[Group, ...], ...] = ()
    tree: bool = True

    def __post_init__(self) -> None:
        if not self.groups or not self.tasks:
            raise ConfigError([Problem("sharing", "a plan must have at least one block and one task", self.groups)])
        if not self.starts:
            object.__setattr__(self, "starts", self.groups)
        if self.tree:
            self._check_tree()
        for number, block in enumerate(self.groups, 1):
            if {task for group in block for task in group} != set(self.tasks) or not all(map(_is_set, block)):
                raise ConfigError([Problem("sharing", f"block {number} must have every task in some copy", block)])
        if [len(block) for block in self.starts] != [len(block) for block in self.groups]:
            raise ConfigError([Problem("sharing", "a plan must have one start for each copy", self.starts)])
        for number, block in enumerate(self.starts, 1):
            if not all(_is_set(start) and set(start) <= set(self.tasks) for start in block):
                raise ConfigError([Problem("sharing", f"copies of block {number} must start from tasks", block)])

    def joined_by(self, tasks: Sequence[str]) -> "SharingPlan":
        """The same, a tree, with more tasks, which use every copy that all others use and start none of these."""
        groups, starts = [], []
        for block, start in zip(self.groups, self.starts, strict=True):
            own = tuple((task,) for task in tasks)
            groups.append(((*block[0], *tasks),) if len(block) == 1 else (*block, *own))
            starts.append(start if len(block) == 1 else (*start, *own))
        return SharingPlan(tuple(groups), tuple(starts), self.tree)

    def started_from(self, tasks: Collection[str]) -> "SharingPlan":
        """The same with copies that start from these tasks alone, except those that none of them uses."""
        starts = tuple(
            tuple(tuple(task for task in start if task in tasks) or start for start in block) for block in self.starts
        )
        return replace(self, starts=starts)

    def _check_tree(self) -> None:
        previous: tuple[Group, ...] = (self.tasks,)
        for number, block in enumerate(self.groups, 1):
            members = [task for group in block for task in group]
            if sorted(members) != sorted(self.tasks) or not all(block):
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
    def tasks(self) -> Group:
        """Every task, in the order of the first block."""
        return tuple(dict.fromkeys(task for group in self.groups[0] for task in group))

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.groups)

    @property
    def shared_depth(self) -> int:
        """Number of leading blocks that all tasks have in common."""
        return sum(len(block) == 1 for block in self.groups)

    def shared(self, block: int) -> tuple[int, ...]:
        """Indices of the block's copies that two tasks or more use."""
        return tuple(i for i, group in enumerate(self.groups[block]) if len(group) > 1)

    def group_of(self, block: int, task: str) -> int:
        """Index of the first of the block's copies that the task uses; in a tree there is no other."""
        return next(i for i, group in enumerate(self.groups[block]) if task in group)

    def place_in(self, other: "SharingPlan", name: str) -> str:
        """A parameter's name in a model of a tree with more tasks.

        Args:
            other: That tree: the same ways for the tasks of this one.
            name: In a model of this plan.
        """
        section, _, rest = name.partition(".")
        if section != "blocks" or self == other:
            return name
        block, copy, tensor = rest.split(".", 2)
        task = self.groups[int(block)][int(copy)][0]
        return f"{section}.{block}.{other.group_of(int(block), task)}.{tensor}"

    def ordered(self, tasks: Sequence[str]) -> "SharingPlan":
        """The same plan in the order of these tasks: within every group, and in a tree the groups by their first."""
        place = {task: index for index, task in enumerate(tasks)}

        def in_order(group: Group) -> Group:
            return tuple(sorted(group, key=place.__getitem__))

        blocks = [
            [(in_order(group), in_order(start)) for group, start in zip(groups, starts, strict=True)]
            for groups, starts in zip(self.groups, self.starts, strict=True)
        ]
        if self.tree:
            blocks = [sorted(copies, key=lambda copy: place[copy[0][0]]) for copies in blocks]
        return SharingPlan(
            tuple(tuple(group for group, _ in copies) for copies in blocks),
            tuple(tuple(start for _, start in copies) for copies in blocks),
            self.tree,
        )

    def __str__(self) -> str:
        """One block after the other, e.g. ``a+b+c > a+b+c > a+b | c``."""
        return " > ".join(" | ".join("+".join(group) for group in block) for block in self.groups)


def _is_set(group: Group) -> bool:
    return bool(group) and len(set(group)) == len(group)
