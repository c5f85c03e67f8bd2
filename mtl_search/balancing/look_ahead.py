"""Measuring: what an update by the present weights does to the losses on rows kept aside, for weightings that learn it.

The finite-difference form of the look-ahead gradient (Liu et al. 2022; the same device as in DARTS, Liu et al. 2019): a
plain gradient step theta' = theta - lr * g, the gradient v of the primary tasks' losses on kept rows at theta', and the
training losses at theta + eps v and theta - eps v, whose difference tells how each weight moves v's losses. Three
forward passes and one backward pass beyond a plain step; dropout is off and batch norm still in them.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from mtl_search.balancing.batch_source import BatchSource
from mtl_search.balancing.gradients import jacobian, parts
from mtl_search.balancing.losses import TaskLosses
from mtl_search.balancing.source_tasks import NO_SOURCE_TASKS, SourceTasks
from mtl_search.data.batching import Batch
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.modes import evaluating
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.weighting.base import Weighting
from mtl_search.weighting.look_ahead import LookAhead

_LENGTH = 0.01
"""Length of eps v, as in the paper's code: far enough for float32, near enough for a derivative."""


class LookAheadProbe:
    """Lets a weighting learn from kept rows, between the gradients of an update and the update.

    Args:
        model: Not wrapped.
        weighting: What learns.
        kept: Rows kept aside.
        losses: Of the model's tasks.
        world: The group that trains together.
        auxiliaries: The source tasks among the model's.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        weighting: Weighting,
        kept: BatchSource,
        losses: TaskLosses,
        world: DistributedContext,
        auxiliaries: SourceTasks = NO_SOURCE_TASKS,
    ) -> None:
        assert isinstance(weighting, LookAhead), "only these keep rows aside"
        self._auxiliaries = auxiliaries
        self._model, self._weighting, self._losses, self._world = model, weighting, losses, world
        self._tasks = [task.name for task in model.tasks]
        self._kept = kept
        self._batches: Iterator[Batch] = iter(())

    def begin(self, epoch: int) -> None:
        """Take the kept rows in an order that depends on the epoch alone, so that a resumed stage goes on alike."""
        self._batches = self._kept.endless(epoch)

    def learn(self, batch: Batch, shares: Tensor, parameters: Sequence[nn.Parameter], lr: float) -> None:
        """Measure and hand the derivative to the weighting; parameters and their gradients stay as they were.

        Args:
            batch: The training batch of this update.
            shares: What one label counts for in its task's mean over that batch, (tasks,).
            parameters: Those that learn, with this update's gradients on them.
            lr: Length of the look-ahead step in gradients.
        """
        before = [parameter.detach().clone() for parameter in parameters]
        with evaluating(self._model):
            with torch.no_grad():
                for parameter in parameters:
                    if parameter.grad is not None:
                        parameter.add_(parameter.grad, alpha=-lr)
            way = self._gradient(next(self._batches), parameters)
            norm = torch.linalg.vector_norm(way)
            eps = _LENGTH / norm.clamp(min=torch.finfo(norm.dtype).tiny ** 0.5)
            ends = []
            with torch.no_grad():
                for sign in (1.0, -1.0):
                    for parameter, start, part in zip(parameters, before, parts(way, parameters), strict=True):
                        parameter.copy_(start + sign * eps * part)
                    ends.append(self._world.sum(self._losses(self._model, batch) * shares))
                for parameter, start in zip(parameters, before, strict=True):
                    parameter.copy_(start)
        self._weighting.learn(self._auxiliaries.targets(-lr * (ends[0] - ends[1]) / (2 * eps)))

    def _gradient(self, batch: Batch, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Gradient of the primary tasks' losses on kept rows, over the global batch, as one long row (P,)."""
        counts = torch.tensor([batch.counts[task] or 1 for task in self._tasks], dtype=torch.float32)
        sums = self._losses(self._model, batch) / counts.to(self._world.device)
        total = sums[list(self._weighting.primary)].sum()
        return jacobian([total], parameters, self._world)[0]
