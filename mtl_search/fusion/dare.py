"""Dare: task vectors of which most entries are dropped at random and the rest scaled up."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_search.fusion.base import Fusion, Site, add_tensors
from mtl_search.fusion.task_arithmetic import TaskArithmetic
from mtl_search.recipe import PositiveFloat, ProperFraction, seed_from
from mtl_search.variants.building import Equal


class Dare(Fusion):
    """DARE with task arithmetic: base + scale * sum of the task vectors after drop and rescale.

    Every entry of a task vector is dropped with probability ``drop``, and what stays is divided by 1 - ``drop``, which
    keeps its expectation. What is dropped depends on the study's seed, the task, the block and the tensor alone.

    Paper: Yu et al., Language Models are Super Mario, ICML 2024, https://arxiv.org/abs/2311.03099

    Args:
        drop: Probability of dropping an entry (the paper finds 0.9 harmless where fine-tuning changed little).
        scale: Factor of the sum of task vectors, as in task arithmetic.
    """

    def __init__(self, drop: ProperFraction = 0.5, scale: PositiveFloat = 0.4) -> None:
        self.drop = drop
        self.scale = scale

    def simpler(self, groups: Sequence[Sequence[str]]) -> Equal[Fusion] | None:
        """Task arithmetic, where nothing is dropped."""
        return None if self.drop else (TaskArithmetic, {"scale": self.scale})

    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor, at: Site) -> Tensor:
        kept = [(value - base) * self._mask(value, task, at) for value, task in zip(values, tasks, strict=True)]
        return base + self.scale / (1 - self.drop) * add_tensors(kept)

    def _mask(self, like: Tensor, task: str, at: Site) -> Tensor:
        # Drawn on the CPU whatever the device, so that all of them drop the same entries.
        generator = torch.Generator().manual_seed(seed_from(at.seed, "dare", task, at.block, at.tensor))
        return (torch.rand(like.shape, generator=generator) >= self.drop).to(like)
