"""Episodes: meta-learning of a base, in the place that ``step`` has in ordinary training.

An episode fine-tunes the trunk and one source task's head for a few steps; then the trunk moves as its base says. The
loop around it (validation, best epoch, checkpoints) is the ordinary one.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from mtl_search.balancing.gradients import jacobian, parts
from mtl_search.balancing.losses import loss_sum
from mtl_search.data.batching import Batch, BatchContents, BatchPlan, BatchRows, DeviceSplit
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import seed_from
from mtl_search.transfer.bases.learned import MetaLearned


class Episodes:
    """Makes the updates of a meta-learned base.

    Gradients are those of the global batch, so two workers make the updates of one.

    Args:
        base: Says how the trunk moves.
        model: All source tasks on one trunk, on the world's device.
        split: Training split on that device.
        seed: Decides the order of rows.
        world: The group that trains together.

    Attributes:
        steps: Episodes per epoch: as many as there are batches for, and one for every task at least.
        learning_rate: Outer learning rate of the last episode.
        affinity: Not measured here.
    """

    affinity = None

    def __init__(
        self, base: MetaLearned, model: MultiTaskModel, split: DeviceSplit, seed: int, world: DistributedContext
    ) -> None:
        self._base, self._model, self._split = base, model, split
        self._seed, self._world = seed, world
        self.learning_rate = 0.0
        self._trunk = list(model.blocks.parameters())
        self._contents = BatchContents.of(split, model.datasets, model.tasks)
        self._plans = [self._plan(task.name, task.dataset) for task in model.tasks]
        batches = sum(plan.steps for plan in self._plans)
        self.steps = max(len(self._plans), batches // (base.inner_steps + 1))

    def _plan(self, task: str, dataset: str) -> BatchPlan:
        rows = {dataset: len(self._split.inputs[dataset])}
        masks, size = {task: self._split.counted(task)}, self._base.schedule.batch_size
        seed = seed_from(self._seed, task)
        world = self._world
        return BatchPlan(rows, masks, {task: dataset}, size, 1.0, seed, world.rank, world.size)

    def run_epoch(self, epoch: int, factor: Callable[[int], float]) -> Tensor:
        """One epoch of episodes, the source tasks in turn.

        Args:
            epoch: Counted from 1; decides the order of rows.
            factor: Outer learning rate relative to its start, by episode of the epoch.

        Returns:
            Mean loss of each task's steps, (tasks,).
        """
        self._model.train()
        batches = [self._endless(number, epoch) for number in range(len(self._plans))]
        losses: list[list[Tensor]] = [[] for _ in batches]
        for number in range(self.steps):
            turn = (epoch - 1) * self.steps + number
            task = turn % len(batches)
            self.learning_rate = self._base.outer_lr * factor(number)
            losses[task] += self._episode(task, batches[task])
        self._world.share_buffers(self._model.buffers())
        return torch.stack([torch.stack(found).mean() if found else torch.zeros(()) for found in losses])

    def enter(self, epoch: int) -> None:
        """Everything learns from the start."""
        self._model.train()

    def judged(self) -> AbstractContextManager[None]:
        """The model is judged as it is."""
        return nullcontext()

    def weights_used(self) -> dict[str, float]:
        """Tasks take turns; none has a weight."""
        return {}

    def mean_cosines(self) -> dict[str, dict[str, float]]:
        """Not measured here."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Nothing but the model goes on from epoch to epoch."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""

    def _episode(self, task: int, batches: Iterator[Batch]) -> list[Tensor]:
        start = [parameter.detach().clone() for parameter in self._trunk]
        learning = [*self._trunk, *list(self._model.heads.values())[task].parameters()]
        losses = []
        for _ in range(self._base.inner_steps):
            loss, gradient = self._gradient(task, next(batches), learning)
            losses.append(loss)
            with torch.no_grad():
                for parameter, part in zip(learning, gradient, strict=True):
                    parameter.sub_(part, alpha=self._base.inner_lr)
        end = [parameter.detach().clone() for parameter in self._trunk]
        _, last = self._gradient(task, next(batches), self._trunk)
        with torch.no_grad():
            for parameter, before, way in zip(self._trunk, start, self._base.direction(start, end, last), strict=True):
                parameter.copy_(before - self.learning_rate * way)
        return losses

    def _gradient(self, number: int, batch: Batch, parameters: list[nn.Parameter]) -> tuple[Tensor, list[Tensor]]:
        """One task's mean loss over the global batch, and its gradient."""
        task = self._model.tasks[number]
        # float16 would need its gradients scaled: there, and where nothing else is asked for, float32.
        with nullcontext() if self._world.scales else self._world.autocast():
            outputs = self._model(batch.inputs, batch.sizes)
        loss = loss_sum(task, outputs, batch) / (batch.counts[task.name] or 1)
        row = jacobian([loss], parameters, self._world)[0]
        return self._world.sum(loss.detach().clone()), parts(row, parameters)

    def _endless(self, number: int, start: int) -> Iterator[Batch]:
        """One task's batches without end, with no rows of other data sets; another start gives another order."""
        place = self._model.datasets.index(self._model.tasks[number].dataset)
        for turn in count():
            for chosen in self._plans[number].epoch(seed_from(start, turn)):
                (own,) = chosen.rows
                rows = tuple(own if index == place else own[:0] for index in range(len(self._model.datasets)))
                yield Batch(BatchRows(rows, chosen.counts), self._contents)
