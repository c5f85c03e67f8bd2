"""Tree: hierarchical sharing, groups of tasks that branch off a trunk."""

from collections.abc import Sequence
from typing import Any, Literal

from mtl_search.errors import ConfigError, Problem
from mtl_search.models.sharing.base import Sharing
from mtl_search.models.sharing.hard import Hard
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.recipe import PositiveInt
from mtl_search.variants.building import Equal

_PLACE = "sharing.tree"


class Tree(Sharing):
    """Hierarchical sharing: all tasks share a trunk, then each group of tasks shares a branch, then each is alone.

    For gradient balancing, trunk and branches of two tasks or more are shared, and a task parts from others at the end
    of the trunk and again at the end of its branch. Cost against N single-task models: the trunk counts once and each
    branch once for its group.

    Paper: Fifty et al., Efficiently Identifying Task Groupings, NeurIPS 2021, https://arxiv.org/abs/2109.04617
    Paper: Lu et al., Fully-Adaptive Feature Sharing in Multi-Task Networks, CVPR 2017, https://arxiv.org/abs/1611.05377

    Args:
        groups: Task names, a list per branch, every task in one. ``auto``: grouped by task affinity, which is measured
            in a joint training of its own before the first trial (two tasks make one group).
        depth: Number of blocks of the trunk.
        until: Number of blocks after which the tasks of a group part; None for never.
        affinity: What ``auto`` measures: the cosine of two tasks' gradients at all shared parameters, or by how much a
            look-ahead step on one task lowers the other's loss (Fifty et al. 2021).

    Raises:
        ConfigError: A group is empty or a task is in several; ``affinity`` without ``auto``.
    """

    def __init__(
        self,
        groups: list[list[str]] | Literal["auto"] = "auto",
        depth: PositiveInt = 1,
        until: PositiveInt | None = None,
        affinity: Literal["cosine", "look_ahead"] = "cosine",
    ) -> None:
        self.groups = groups
        self.depth = depth
        self.until = until
        self.measure = affinity if groups == "auto" else ""
        if groups != "auto":
            named = [task for group in groups for task in group]
            twice = sorted({task for task in named if named.count(task) > 1})
            problems = [Problem(f"{_PLACE}.groups", "must have every task in one group", task) for task in twice]
            if affinity != "cosine":
                problems.append(Problem(f"{_PLACE}.affinity", "has no effect with groups given", affinity))
            if not named or not all(groups):
                problems.append(Problem(f"{_PLACE}.groups", "must be groups of one task or more", groups))
            if problems:
                raise ConfigError(problems)

    def settled(self, groups: Sequence[Sequence[str]]) -> dict[str, Any]:
        """The groups in place of ``auto``."""
        return {"groups": [list(group) for group in groups], "affinity": "cosine"} if self.measure else {}

    def simpler(self, tasks: Sequence[str], blocks: int) -> Equal[Sharing] | None:
        """Hard sharing where there is one group, or a group for each task; no end of the branches that is the top."""
        if self.groups == "auto":
            return None
        if len(self.groups) == len(tasks):
            return Hard, {"depth": self.depth}
        if len(self.groups) == 1:
            return Hard, {"depth": self.until}
        if self.until == blocks:
            return Tree, {"groups": self.groups, "depth": self.depth}
        return None

    def _plan(self, tasks: tuple[str, ...], blocks: int) -> SharingPlan:
        groups, problems = self._grouped(tasks)
        until = blocks if self.until is None else self.until
        if self.depth >= blocks > 1:
            rule = f"must be less than the backbone's {blocks} blocks, or no block is left for the groups"
            problems.append(Problem(f"{_PLACE}.depth", rule, self.depth))
        elif blocks == 1:
            problems.append(Problem(_PLACE, "needs a backbone of two blocks or more", blocks))
        elif not self.depth < until <= blocks:
            rule = f"must be more than depth, {self.depth}, and at most the backbone's {blocks} blocks"
            problems.append(Problem(f"{_PLACE}.until", rule, until))
        if problems:
            raise ConfigError(problems)
        alone = tuple((task,) for task in tasks)
        return SharingPlan(((tasks,),) * self.depth + (groups,) * (until - self.depth) + (alone,) * (blocks - until))

    def _grouped(self, tasks: tuple[str, ...]) -> tuple[tuple[tuple[str, ...], ...], list[Problem]]:
        place = f"{_PLACE}.groups"
        if self.groups == "auto":
            rule = "auto is resolved from measured task affinity before a trial starts; a plan must have the groups"
            return (tasks,), [Problem(place, rule)] if len(tasks) > 2 else []
        named = {task for group in self.groups for task in group}
        problems = [Problem(place, "must name tasks", task, tasks) for task in sorted(named - set(tasks))]
        problems += [Problem(place, "must have every task in a group", task) for task in tasks if task not in named]
        return tuple(tuple(group) for group in self.groups), problems
