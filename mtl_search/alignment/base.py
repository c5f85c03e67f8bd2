"""Alignment: the base class of all ways to draw the data sets of a model's tasks together.

A recipe's ``alignment`` component is one. It makes the aligner that a model carries through joint training.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

from mtl_search.data.task import Task
from mtl_search.errors import ConfigError, Problem
from mtl_search.models.alignment_point import AlignmentModule, AlignmentPoint


class Alignment(ABC):
    """A way to align data sets; the constructor's signature is its schema in the study file."""

    @abstractmethod
    def check(self, tasks: Sequence[Task]) -> None:
        """Whether the alignment suits the study's tasks.

        Raises:
            ConfigError: It does not; the rule gives the reason.
        """

    @abstractmethod
    def align(self, alignment_points: Sequence[AlignmentPoint]) -> AlignmentModule | None:
        """The aligner of a model with these alignment points; None for no alignment.

        Raises:
            ConfigError: There is nowhere to align.
        """


class Aligning(Alignment):
    """An alignment that does something: it needs two data sets, and tasks of theirs that share a representation.

    It acts on every row of a batch: rows without any label count for the alignment and for no loss. In a tree, a task's
    data set is aligned at the deepest representation that the task shares with one of another, and the penalties of
    several such places are summed.
    """

    @final
    def check(self, tasks: Sequence[Task]) -> None:
        """Whether there are data sets to align.

        Raises:
            ConfigError: All tasks have the same one.
        """
        if len({task.dataset for task in tasks}) < 2:
            raise ConfigError(
                [Problem("alignment", "needs tasks on two data sets or more: it is these that it aligns")]
            )

    @final
    def align(self, alignment_points: Sequence[AlignmentPoint]) -> AlignmentModule:
        """The aligner of a model with these alignment points.

        Raises:
            ConfigError: There are none.
        """
        if not alignment_points:
            rule = "has nothing to align: tasks of different data sets have no representation in common"
            raise ConfigError([Problem("alignment", rule)])
        return self._aligner(alignment_points)

    @abstractmethod
    def _aligner(self, alignment_points: Sequence[AlignmentPoint]) -> AlignmentModule:
        """Make the aligner for one alignment point or more."""
