"""Task losses of a model on a batch: what every update, probe and learned fusion starts from."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtl_search.data.batching import Batch
from mtl_search.data.task import Task
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.forward_context import ForwardContext


class TaskLosses:
    """Task losses as a pure function of a model, a batch and a context.

    Args:
        tasks: The model's, in its order.
        world: The group that trains together; says in which precision the model runs.
    """

    def __init__(self, tasks: Sequence[Task], world: DistributedContext) -> None:
        self.tasks = tuple(tasks)
        self._world = world

    def __call__(self, model: nn.Module, batch: Batch, context: ForwardContext | None = None) -> Tensor:
        """Task losses summed over this rank's rows, (tasks,).

        Args:
            model: In training mode it begins with the batch's start. What is kept of leading blocks was made in
                training mode, so in evaluation mode the model begins at the inputs.
            batch: This rank's rows.
            context: As the model's call takes it.
        """
        x, start_block = batch.start if model.training else (batch.inputs, 0)
        with self._world.autocast():
            outputs = model(x, batch.sizes, context, start_block)
        return torch.stack([loss_sum(task, outputs, batch) for task in self.tasks])


def loss_sum(task: Task, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """A task's loss, summed over the labels of this rank's rows; scalar.

    Args:
        task: The task.
        outputs: Raw outputs by task, for the rows of its data set in the batch.
        batch: Its targets, masks and weights.
    """
    name = task.name
    return task.behaviour.loss_sum(task, outputs[name], batch.targets(name), batch.mask(name), batch.weights(name))
