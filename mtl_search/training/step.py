"""The step: one global batch -> task losses -> weights -> one backward pass -> one update.

The innermost hop of the data path. Losses are sums over this rank's rows divided by the labels of the global batch, so
two workers make the same update as one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtl_search.data.batching import Batch, BatchPlan, DeviceSplit
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Schedule
from mtl_search.training.losses import loss_sum
from mtl_search.training.world import World
from mtl_search.weighting.base import Weighting

_WINDOW = 64
"""Steps whose label counts go to the device at once: each copy makes the device wait."""


@dataclass(frozen=True)
class _Labels:
    """One task's labels in the training split.

    Attributes:
        task: Its name.
        loss: Name of its loss.
        dataset: Index of its data set among the model's.
        targets: (n, ...).
        mask: Where there is a label, shaped as ``targets``; None where all are.
    """

    task: str
    loss: str
    dataset: int
    targets: Tensor
    mask: Tensor | None


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
        self._model, self._world = model, world
        self._weighting, self._optimizer = weighting, optimizer
        self._clip = schedule.clip_norm
        self._features = [split.features[name] for name in model.datasets]
        masks = {task.name: split.masks[task.name] for task in model.tasks}
        self._labels = [
            _Labels(
                task.name,
                task.loss,
                model.datasets.index(task.dataset),
                split.targets[task.name],
                None if masks[task.name].all() else masks[task.name],
            )
            for task in model.tasks
        ]
        self._plan = BatchPlan(
            {name: len(split.features[name]) for name in model.datasets},
            masks,
            {task.name: task.dataset for task in model.tasks},
            schedule.batch_size,
            schedule.temperature,
            seed,
            world.rank,
            world.size,
        )
        self._peaks = [group["lr"] for group in optimizer.param_groups]
        self._weight_sum = torch.zeros(len(model.tasks), device=world.device)
        self._wrapped: nn.Module | None = None
        self._frozen: bool | None = None
        self._learning: list[nn.Parameter] = []
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
            parameter.grad = None
        self._learning = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        # The old wrap goes first: two at once would each reduce the same gradients.
        self._wrapped = None
        self._wrapped = self._world.wrap(self._model)

    def run_epoch(self, epoch: int, factor: Callable[[int], float]) -> Tensor:
        """One pass over the training split.

        Args:
            epoch: Counted from 1; decides the order of rows.
            factor: Learning rate relative to its peak, by step of the epoch.

        Returns:
            Mean task losses of the global batches over the steps, (tasks,).
        """
        assert self._wrapped is not None, "freeze() wraps the model before an epoch"
        self._wrapped.train()
        self._still_frozen_norms()
        self._weight_sum.zero_()
        losses = []
        for number, (batch, shares) in enumerate(self._batches(epoch)):
            self._set_learning_rate(factor(number))
            losses.append(self._update(batch, shares, self._wrapped))
        self._world.share_buffers(self._model)
        return torch.stack(losses).mean(0)

    def weights_used(self) -> dict[str, float]:
        """Mean weight of each task over the last epoch's updates."""
        means = (self._weight_sum / self.steps).tolist()
        return {labels.task: mean for labels, mean in zip(self._labels, means, strict=True)}

    def _batches(self, epoch: int) -> Iterator[tuple[Batch, Tensor]]:
        """The epoch's batches, each with what one label counts for in its task's mean over the batch, (tasks,)."""
        batches = self._plan.epoch(epoch)
        while window := list(islice(batches, _WINDOW)):
            counts = [[max(batch.counts[labels.task], 1) for labels in self._labels] for batch in window]
            shares = torch.tensor(counts, dtype=torch.float32).reciprocal().to(self._world.device)
            yield from zip(window, shares.unbind(), strict=True)

    def _update(self, batch: Batch, shares: Tensor, model: nn.Module) -> Tensor:
        """One update; the task losses of the global batch, (tasks,)."""
        parts = [x.index_select(0, rows) for x, rows in zip(self._features, batch.rows, strict=True)]
        features = parts[0] if len(parts) == 1 else torch.cat(parts)
        with self._world.autocast():
            outputs = model(features, [rows.numel() for rows in batch.rows])
        sums = torch.stack([_loss_sum(labels, outputs, batch) for labels in self._labels])
        losses = self._world.sum(sums.detach() * shares)
        weights = self._weighting(losses)
        self._weight_sum += weights
        for parameter in self._learning:
            parameter.grad = None
        # DDP averages gradients over ranks; the parts must add up, so each counts as often as there are ranks.
        scale = shares if self._world.size == 1 else shares * self._world.size
        sums.backward(weights * scale)  # type: ignore[no-untyped-call]
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self._learning, self._clip)
        self._optimizer.step()
        return losses

    def _still_frozen_norms(self) -> None:
        """Keep batch norms inside frozen blocks as they are: their running statistics belong to the blocks."""
        for module in self._model.modules():
            if isinstance(module, _BatchNorm) and module.weight is not None and not module.weight.requires_grad:
                module.eval()

    def _set_learning_rate(self, factor: float) -> None:
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        self.learning_rate = self._peaks[0] * factor


def _loss_sum(labels: _Labels, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
    """One task's loss, summed over this rank's rows."""
    rows = batch.rows[labels.dataset]
    mask = None if labels.mask is None else labels.mask.index_select(0, rows)
    return loss_sum(labels.loss, outputs[labels.task], labels.targets.index_select(0, rows), mask)
