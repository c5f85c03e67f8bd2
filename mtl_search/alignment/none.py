"""NoAlignment: data sets are left as they are."""

from collections.abc import Sequence

from mtl_search.alignment.base import Alignment
from mtl_search.data.task import Task
from mtl_search.models.alignment_point import AlignmentPoint


class NoAlignment(Alignment):
    """No alignment: the tasks' losses alone decide what the shared layers make of each data set."""

    def check(self, tasks: Sequence[Task]) -> None:
        """Suits any tasks."""

    def align(self, alignment_points: Sequence[AlignmentPoint]) -> None:
        """Nothing."""
