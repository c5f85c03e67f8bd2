"""Weighted: an average of the fine-tuned parameters with a coefficient per task."""

from collections.abc import Sequence
from math import isfinite

from torch import Tensor

from mtl_search.errors import ConfigError, Problem
from mtl_search.fusion.base import Fusion
from mtl_search.recipe import PerTask

_PLACE = "fusion.weighted.coefficients"


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
        self.coefficients = coefficients
        named = coefficients if isinstance(coefficients, dict) else {"": coefficients}
        wrong = {task: value for task, value in named.items() if not (isfinite(value) and value >= 0)}
        if wrong:
            places = {task: f"{_PLACE}.{task}" if task else _PLACE for task in wrong}
            raise ConfigError([Problem(places[task], "must be 0 or more", value) for task, value in wrong.items()])
        if not any(named.values()) and not isinstance(coefficients, dict):
            raise ConfigError([Problem(_PLACE, "must be above 0", coefficients)])

    def check(self, tasks: Sequence[str]) -> None:
        """Whether every coefficient belongs to a task of the study.

        Raises:
            ConfigError: One does not.
        """
        named = self.coefficients if isinstance(self.coefficients, dict) else {}
        strangers = [task for task in named if task not in tasks]
        if strangers:
            raise ConfigError([Problem(_PLACE, "must name tasks", task, tuple(tasks)) for task in strangers])

    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor) -> Tensor:
        coefficients = [self._of(task) for task in tasks]
        whole = sum(coefficients)
        if not whole:
            rule = f"must not all be 0 for tasks that share a block ({', '.join(tasks)})"
            raise ConfigError([Problem(_PLACE, rule)])
        total = values[0] * (coefficients[0] / whole)
        for value, coefficient in zip(values[1:], coefficients[1:], strict=True):
            total += (coefficient / whole) * value
        return total

    def _of(self, task: str) -> float:
        return self.coefficients.get(task, 1.0) if isinstance(self.coefficients, dict) else self.coefficients
