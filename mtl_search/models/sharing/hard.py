"""Hard: hard parameter sharing up to a depth."""

from mtl_search.errors import ConfigError, Problem
from mtl_search.models.sharing.base import Sharing, SharingPlan
from mtl_search.recipe import NonNegativeInt


class Hard(Sharing):
    """Hard parameter sharing: all tasks share the first ``depth`` blocks, then each has its own.

    Paper: Caruana, Multitask Learning, Machine Learning 28, 1997, https://doi.org/10.1023/A:1007379606734

    Args:
        depth: Number of shared blocks; 0 shares nothing, None shares the whole backbone.
    """

    def __init__(self, depth: NonNegativeInt | None = None) -> None:
        self.depth = depth

    def _plan(self, tasks: tuple[str, ...], blocks: int) -> SharingPlan:
        depth = blocks if self.depth is None else self.depth
        if not 0 <= depth <= blocks:
            rule = f"must be from 0 to the backbone's {blocks} blocks"
            raise ConfigError([Problem("sharing.hard.depth", rule, depth)])
        separate = tuple((task,) for task in tasks)
        return SharingPlan(((tasks,),) * depth + (separate,) * (blocks - depth))
