"""Hard: hard parameter sharing up to a depth."""

from collections.abc import Sequence

from mtl_search.errors import ConfigError, Problem
from mtl_search.models.sharing.base import Sharing
from mtl_search.models.sharing.none import NoSharing
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.recipe import NonNegativeInt
from mtl_search.variants.building import Equal


class Hard(Sharing):
    """Hard parameter sharing: all tasks share the first ``depth`` blocks, then each has its own.

    For gradient balancing, the shared blocks are shared, and the tasks part at the output of the last of them. Cost
    against N single-task models: the shared blocks count once instead of N times.

    Paper: Caruana, Multitask Learning, Machine Learning 28, 1997, https://doi.org/10.1023/A:1007379606734

    Args:
        depth: Number of shared blocks; 0 shares nothing, None shares the whole backbone.
    """

    def __init__(self, depth: NonNegativeInt | None = None) -> None:
        self.depth = depth

    def simpler(self, tasks: Sequence[str], blocks: int) -> Equal[Sharing] | None:
        """No sharing with depth 0; no depth where it is that of the whole backbone."""
        if self.depth == 0:
            return NoSharing, {}
        return (Hard, {}) if self.depth == blocks else None

    def _plan(self, tasks: tuple[str, ...], blocks: int) -> SharingPlan:
        depth = blocks if self.depth is None else self.depth
        if not 0 <= depth <= blocks:
            rule = f"must be from 0 to the backbone's {blocks} blocks"
            raise ConfigError([Problem("sharing.hard.depth", rule, depth)])
        separate = tuple((task,) for task in tasks)
        return SharingPlan(((tasks,),) * depth + (separate,) * (blocks - depth))
