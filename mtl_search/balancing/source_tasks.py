"""Auxiliaries: the source tasks that a joint stage takes along, behind the target tasks in a model's order.

Their losses enter the update with a weight of their own. What balances tasks sees the target tasks alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mtl_search.transfer.auxiliaries import Auxiliary, NoAuxiliary


@dataclass(frozen=True)
class SourceTasks:
    """How many of a model's tasks, from the last, are source tasks, and what they weigh.

    Attributes:
        weighting: Their weight over the stage.
        count: How many.
    """

    weighting: Auxiliary
    count: int

    def targets(self, values: Tensor) -> Tensor:
        """The target tasks' part of values by task: (tasks, ...) -> (targets, ...)."""
        return values[: len(values) - self.count]

    def joined(self, weights: Tensor, progress: float) -> Tensor:
        """Weights of all tasks.

        Args:
            weights: Of the target tasks, (targets,).
            progress: Share of the stage's steps that are done, in [0, 1).
        """
        if not self.count:
            return weights
        return torch.cat([weights, weights.new_full((self.count,), self.weighting.weight(progress))])


NO_SOURCE_TASKS = SourceTasks(NoAuxiliary(), 0)
