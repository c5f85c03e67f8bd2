"""The step: one global batch -> task losses -> weights -> one backward pass -> one update.

The innermost hop of the data path. Losses are sums over this rank's rows divided by the labels of the global batch, so
two workers make the same update as one.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mtl_search.data.batching import Batch, BatchPlan, DeviceSplit
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Schedule
from mtl_search.training.losses import loss_sum
from mtl_search.training.world import World
from mtl_search.weighting.base import Weighting


class Step:
    """Makes the updates of one stage.

    Args:
        model: On the world's device.
        split: Training split on that device.
        schedule: Batch size, temperature and gradient clipping.
        weighting: Turns the task losses into one update.
        optimizer: Over all of the model's parameters.
        seed: Decides the order of rows.
        world: The group that trains together.

    Attributes:
        steps: Updates per epoch, equal on every rank.
        learning_rate: Of the last update.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        split: DeviceSplit,
        schedule: Schedule,
        weighting: Weighting,
        optimizer: torch.optim.Optimizer,
        seed: int,
        world: World,
    ) -> None:
        self._model, self._split, self._world = model, split, world
        self._weighting, self._optimizer = weighting, optimizer
        self._clip = schedule.clip_norm
        datasets = model.datasets
        self._plan = BatchPlan(
            {name: len(split.features[name]) for name in datasets},
            {task.name: split.masks[task.name] for task in model.tasks},
            {task.name: task.dataset for task in model.tasks},
            schedule.batch_size,
            schedule.temperature,
            seed,
            world.rank,
            world.size,
        )
        self._masked = {task.name: not bool(split.masks[task.name].all()) for task in model.tasks}
        self._dataset_index = {task.name: datasets.index(task.dataset) for task in model.tasks}
        self._peaks = [group["lr"] for group in optimizer.param_groups]
        self._weight_sum = torch.zeros(len(model.tasks), device=world.device)
        self._wrapped: nn.Module | None = None
        self._frozen: bool | None = None
        self.steps = self._plan.steps
        self.learning_rate = 0.0
        weighting.start([task.name for task in model.tasks], world.device)

    def freeze(self, frozen: bool) -> None:
        """Hold the blocks that tasks share as they are, or let them learn; wraps the model anew where that changes."""
        if frozen == self._frozen:
            return
        self._frozen = frozen
        for parameter in self._model.shared_parameters():
            parameter.requires_grad_(not frozen)
            if frozen:
                parameter.grad = None
        self._wrapped = self._world.wrap(self._model)

    def run_epoch(self, epoch: int, factor: Callable[[int], float]) -> Tensor:
        """One pass over the training split.

        Args:
            epoch: Counted from 1; decides the order of rows.
            factor: Learning rate relative to its peak, by step of the epoch.

        Returns:
            Mean task losses over the steps, (tasks,), reduced over ranks.
        """
        assert self._wrapped is not None, "freeze() wraps the model before an epoch"
        self._wrapped.train()
        total = torch.zeros(len(self._model.tasks), device=self._world.device)
        self._weight_sum.zero_()
        for number, batch in enumerate(self._plan.epoch(epoch)):
            self._set_learning_rate(factor(number))
            total += self._update(batch)
        return self._world.sum(total) / self.steps

    def weights_used(self) -> dict[str, float]:
        """Mean weight of each task over the last epoch's updates."""
        means = (self._weight_sum / self.steps).tolist()
        return {task.name: mean for task, mean in zip(self._model.tasks, means, strict=True)}

    def _update(self, batch: Batch) -> Tensor:
        """One update; this rank's part of the task losses, (tasks,)."""
        parts = [self._split.features[name][rows] for name, rows in zip(self._model.datasets, batch.rows, strict=True)]
        features = parts[0] if len(parts) == 1 else torch.cat(parts)
        assert self._wrapped is not None
        with self._world.autocast():
            outputs = self._wrapped(features, tuple(map(len, parts)))
        losses = torch.stack(
            [self._loss(task.name, task.loss, outputs[task.name], batch) for task in self._model.tasks]
        )
        weights = self._weighting(losses.detach())
        self._weight_sum += weights
        self._optimizer.zero_grad(set_to_none=True)
        # DDP averages gradients over ranks; the parts must add up, so each counts as often as there are ranks.
        (weights @ losses * self._world.size).backward()  # type: ignore[no-untyped-call]
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        self._optimizer.step()
        return losses.detach()

    def _loss(self, task: str, loss: str, raw: Tensor, batch: Batch) -> Tensor:
        rows = batch.rows[self._dataset_index[task]]
        mask = self._split.masks[task][rows] if self._masked[task] else None
        part = loss_sum(loss, raw, self._split.targets[task][rows], mask)
        return part / max(batch.counts[task], 1)

    def _set_learning_rate(self, factor: float) -> None:
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        self.learning_rate = self._peaks[0] * factor
