"""Layerwise: an average of the fine-tuned parameters whose coefficients change from block to block."""

from collections.abc import Sequence

from torch import Tensor

from mtl_search.fusion.base import Fusion, Site, weighted_sum
from mtl_search.fusion.coefficients import Coefficients
from mtl_search.fusion.mean import Mean
from mtl_search.recipe import PerTask
from mtl_search.variants.building import Equal


class Layerwise(Fusion):
    """Average with coefficients per task and block, on a straight line from the first block to the last.

    A task's share of block l of L is (1 - d) * bottom + d * top with d = l / (L - 1), where both ends are normalised to
    sum 1 within the group: two numbers per task to search, however deep the backbone. A backbone of one block takes
    the middle of the line.

    Paper: Yang et al., AdaMerging: Adaptive Model Merging for Multi-Task Learning, ICLR 2024, https://arxiv.org/abs/2310.02575

    Args:
        bottom: Coefficients at the first block, as those of ``weighted``.
        top: Coefficients at the last block.

    Raises:
        ConfigError: A coefficient is negative or no number.
    """

    def __init__(self, bottom: PerTask = 1.0, top: PerTask = 1.0) -> None:
        self.bottom = Coefficients(bottom, "fusion.layerwise.bottom")
        self.top = Coefficients(top, "fusion.layerwise.top")

    def check(self, tasks: Sequence[str]) -> None:
        """Whether every coefficient belongs to a task of the study.

        Raises:
            ConfigError: One does not.
        """
        self.bottom.check(tasks)
        self.top.check(tasks)

    def simpler(self, groups: Sequence[Sequence[str]]) -> Equal[Fusion] | None:
        """The plain average, where the tasks of each group count alike at both ends."""
        return (Mean, {}) if self.bottom.even(groups) and self.top.even(groups) else None

    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor, at: Site) -> Tensor:
        depth = at.block / (at.blocks - 1) if at.blocks > 1 else 0.5
        ends = zip(self.bottom.of(tasks), self.top.of(tasks), strict=True)
        return weighted_sum(values, [(1 - depth) * bottom + depth * top for bottom, top in ends])
