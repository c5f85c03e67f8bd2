"""Weighted: an average of the fine-tuned parameters with a coefficient per task."""

from collections.abc import Sequence

from torch import Tensor

from mtl_search.fusion.base import Fusion, Site, weighted_sum
from mtl_search.fusion.coefficients import Coefficients
from mtl_search.fusion.mean import Mean
from mtl_search.recipe import PerTask
from mtl_search.variants.building import Equal


class Weighted(Fusion):
    """Weighted average: each task's model counts by its coefficient, normalised to sum 1 within a group.

    Paper: Matena and Raffel, Merging Models with Fisher-Weighted Averaging, NeurIPS 2022, https://arxiv.org/abs/2111.09832

    Args:
        coefficients: One number for all tasks, or a number by task (1 for tasks not named); none negative, and not all
            zero within any group of tasks that share a block.

    Raises:
        ConfigError: A coefficient is negative or no number.
    """

    def __init__(self, coefficients: PerTask = 1.0) -> None:
        self.coefficients = Coefficients(coefficients, "fusion.weighted.coefficients")

    def check(self, tasks: Sequence[str]) -> None:
        """Whether every coefficient belongs to a task of the study.

        Raises:
            ConfigError: One does not.
        """
        self.coefficients.check(tasks)

    def simpler(self, groups: Sequence[Sequence[str]]) -> Equal[Fusion] | None:
        """The plain average, where the tasks of each group count alike."""
        return (Mean, {}) if self.coefficients.even(groups) else None

    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor, at: Site) -> Tensor:
        return weighted_sum(values, self.coefficients.of(tasks))
