"""NoSharing: a trunk per task, side by side in one model."""

from mtl_search.models.sharing.base import Sharing
from mtl_search.models.sharing.plan import SharingPlan


class NoSharing(Sharing):
    """No sharing: every task has the whole backbone for itself, and starts as its single-task model.

    What joint training alone does: one schedule and one weighting for all tasks. For gradient balancing nothing is
    shared. Cost: that of N single-task models.
    """

    def _plan(self, tasks: tuple[str, ...], blocks: int) -> SharingPlan:
        return SharingPlan.separate(tasks, blocks)
