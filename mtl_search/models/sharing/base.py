"""Sharing: the base class of all ways to share parameters between tasks.

A recipe's ``sharing`` component is one. It gives a plan (which tasks use which copy of each block) and the sharing
module that wires the copies; ``models.multitask`` builds the model from both.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

from mtl_search.data.task import Task
from mtl_search.errors import ConfigError, Problem
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.models.sharing.sharing_module import ModelLayout, SharingModule
from mtl_search.models.sharing.tree_sharing import TreeSharing
from mtl_search.variants.building import Equal


class Sharing(ABC):
    """A way to share parameters between tasks; the constructor's signature is its schema in the study file.

    Attributes:
        measure: The task affinity that it must know before it can plan (``cosine``, ``look_ahead``); empty for none.
    """

    measure: str = ""

    @final
    def plan(self, tasks: Sequence[str], blocks: int, sources: Sequence[str] = ()) -> SharingPlan:
        """The plan for a backbone of so many blocks.

        Source tasks go with all others where these go one way, and their own way from there on; where a sharing is no
        tree, or shares between one task and them, they count as tasks.

        Args:
            tasks: Task names in the study's order.
            blocks: Number of blocks of the backbone.
            sources: Names of source tasks that the model has too.

        Returns:
            The plan, tasks within a group in the study's order and, in a tree, groups by their first task. One task
            alone has nothing to share: its plan is that of a single-task model.

        Raises:
            ConfigError: The parameters do not fit the backbone or the tasks.
        """
        if sources:
            if len(tasks) > 1 and (alone := self.plan(tasks, blocks)).tree:
                return alone.joined_by(sources)
            # Source tasks have no fine-tuned model: they take over what the tasks start from.
            return self.plan((*tasks, *sources), blocks).started_from(tasks)
        if len(tasks) == 1:
            return SharingPlan.separate(tasks, blocks)
        plan = self._plan(tuple(tasks), blocks)
        if plan.blocks != blocks:
            raise ConfigError([Problem("sharing", f"must give a plan for {blocks} blocks", plan.blocks)])
        if sorted(plan.tasks) != sorted(tasks):
            raise ConfigError([Problem("sharing", "must give a plan for the study's tasks", plan.tasks, tuple(tasks))])
        return plan.ordered(tasks)

    @final
    def module_factory(self, layout: ModelLayout) -> SharingModule:
        """The wiring of the copies of this sharing's plan.

        Raises:
            ConfigError: The parameters do not fit the backbone.
        """
        return TreeSharing(layout) if len(layout.tasks) == 1 else self._module_factory(layout)

    def settled(self, groups: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Parameters to take the place of those that wait for measured affinity; none by default.

        Args:
            groups: Tasks that go well together, a group each.
        """
        return {}

    @final
    def wires_plainly(self) -> bool:
        """Whether the copies of its plan are all it has: nothing else is learned, and no penalty ties the tasks."""
        return type(self)._module_factory is Sharing._module_factory

    def simpler(self, tasks: Sequence[str], blocks: int) -> Equal["Sharing"] | None:
        """A simpler sharing that makes the same model; None where there is none.

        Args:
            tasks: Task names in the study's order, two or more.
            blocks: Number of blocks of the backbone.
        """
        return None

    def check(self, tasks: Sequence[Task]) -> None:  # noqa: B027
        """Whether the sharing suits the study's tasks, beyond what ``plan`` sees of them.

        Raises:
            ConfigError: It does not; the rule gives the reason.
        """

    @abstractmethod
    def _plan(self, tasks: tuple[str, ...], blocks: int) -> SharingPlan:
        """Give the tasks their copies of every block."""

    def _module_factory(self, layout: ModelLayout) -> SharingModule:
        return TreeSharing(layout)
