"""The step: one global batch -> task losses -> balanced gradients -> one update.

Innermost hop but one of the data path: ``balancing`` makes the gradients. Losses are sums over this rank's rows divided
by the labels of the global batch, so two workers make the same update as one.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from mtl_search.balancing.affinity import Affinity, Cosines
from mtl_search.balancing.balancer import BALANCERS, BatchStats, JacobianFree
from mtl_search.balancing.batch_source import batch_sources
from mtl_search.balancing.gradient_location import SharedParts, gradient_location
from mtl_search.balancing.look_ahead import LookAheadProbe
from mtl_search.balancing.losses import TaskLosses
from mtl_search.balancing.source_tasks import NO_SOURCE_TASKS, SourceTasks
from mtl_search.data.batching import Batch, DeviceSplit, KeptRows
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Schedule, seed_from
from mtl_search.training.freezing import Freezing
from mtl_search.training.frozen_prefix import FrozenPrefix
from mtl_search.transfer.average import Average
from mtl_search.transfer.l2_sp import L2SP
from mtl_search.weighting.base import Weighting
from mtl_search.weighting.look_ahead import LookAhead

_WINDOW = 64
"""Steps whose label counts go to the device at once: each copy makes the device wait."""
_MEASURED = 32
"""Of so many steps, one measures how the tasks' gradients lie to each other where the weighting does not."""


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
        base: Starting parameters of the blocks, on the device; what ``l2_sp`` pulls towards.
        prefix: Keeps what frozen blocks give; every pass begins at the input if not given.
        affinity: Task affinity to measure on the way, ``cosine`` or ``look_ahead``; empty for none.
        auxiliaries: The source tasks among the model's.

    Attributes:
        steps: Updates per epoch, equal on every rank.
        learning_rate: Of the last update.
        affinity: What was measured of it so far.

    Raises:
        ConfigError: The weighting cannot balance what this model shares.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        split: DeviceSplit,
        schedule: Schedule,
        weighting: Weighting,
        optimizer: torch.optim.Optimizer,
        seed: int,
        world: DistributedContext,
        base: Mapping[str, Tensor] | None = None,
        prefix: FrozenPrefix | None = None,
        affinity: str = "",
        auxiliaries: SourceTasks = NO_SOURCE_TASKS,
    ) -> None:
        self._model, self._world = model, world
        self._weighting, self._optimizer = weighting, optimizer
        self._clip = schedule.clip_norm
        self._inputs = [split.inputs[name] for name in model.datasets]
        self._kept: tuple[Sequence[KeptRows], int] | None = None
        self._losses = TaskLosses(model.tasks, world)
        holdout = weighting.holdout if isinstance(weighting, LookAhead) else 0.0
        self._train, kept = batch_sources(model, split, schedule, holdout, seed, world)
        self._epochs = schedule.epochs
        self._peaks = [group["lr"] for group in optimizer.param_groups]
        self._wrapped: nn.Module | None = None
        self._freezing, self._prefix = Freezing(model, schedule), prefix
        self._pull = L2SP(model, base or {}, schedule.l2_sp) if schedule.l2_sp else None
        self._average = Average(model, schedule.average) if schedule.average else None
        self.steps = self._train.steps
        self.learning_rate = 0.0
        targets = [task.name for task in model.tasks[: len(model.tasks) - auxiliaries.count]]
        place = gradient_location(weighting, SharedParts.of(model, targets))
        weighting.start(targets, world.device, seed_from(seed, "weighting"))
        self._balancing = BALANCERS[place](model, weighting, self._losses, world, auxiliaries)
        self._scaler = torch.amp.GradScaler(world.device.type, enabled=world.scales)
        self._measuring = (
            None if kept is None else LookAheadProbe(model, weighting, kept, self._losses, world, auxiliaries)
        )
        self._weight_sum = torch.zeros(len(model.tasks), device=world.device)
        self._times = torch.zeros(len(model.tasks))
        self._cosines = Cosines(model.tasks, place, world.device)
        self.affinity = Affinity(affinity, model, self._losses, world) if affinity else None

    def enter(self, epoch: int) -> None:
        """Put the model in training mode and let those blocks learn whose time has come.

        Where that changes anything, the model is wrapped anew.

        Args:
            epoch: From 1.
        """
        if self._freezing.enter(epoch):
            # The old wrap goes first: two at once would each reduce the same gradients.
            self._wrapped = None
            self._wrapped = self._world.wrap(self._model)
            if self._prefix is not None:
                self._prefix.hold(self._freezing.depth)
        assert self._wrapped is not None
        self._wrapped.train()
        self._freezing.still_norms()

    def run_epoch(self, epoch: int, factor: Callable[[int], float]) -> Tensor:
        """One pass over the training split.

        Args:
            epoch: Counted from 1; decides the order of rows, and which blocks learn.
            factor: Learning rate relative to its peak, by step of the epoch.

        Returns:
            Mean task losses of the global batches over the steps, (tasks,).
        """
        self.enter(epoch)
        assert self._wrapped is not None
        if self._prefix is not None:
            self._kept = self._prefix.training(self._inputs, self._train.own_rows)
        self._weight_sum.zero_()
        self._times.zero_()
        self._cosines.clear()
        if self._measuring is not None:
            self._measuring.begin(epoch)
        losses = []
        for number, (batch, stats) in enumerate(self._batches(epoch)):
            self._set_learning_rate(factor(number))
            if isinstance(self._balancing, JacobianFree):
                self._balancing.measures = number % _MEASURED == 0 and len(self._losses.tasks) > 1
            if self.affinity is not None and number % _MEASURED == 0:
                self.affinity.measure(batch, stats.shares, stats.present, self.learning_rate)
            losses.append(self._update(batch, stats, self._wrapped))
        self._weighting.end_epoch()
        self._kept = None
        self._world.share_buffers([*self._model.buffers(), *(self._average.buffers() if self._average else ())])
        return torch.stack(losses).mean(0)

    def judged(self) -> AbstractContextManager[None]:
        """While it is open, the model has the weights to be validated and kept: their average, if there is one."""
        return self._average.standing_in() if self._average else nullcontext()

    def weights_used(self) -> dict[str, float]:
        """Mean weight of each task over the last epoch's updates that it had a label in."""
        means = (self._weight_sum.cpu() / self._times.clamp(min=1)).tolist()
        return {task.name: mean for task, mean in zip(self._losses.tasks, means, strict=True)}

    def mean_cosines(self) -> dict[str, dict[str, float]]:
        """How the tasks' gradients lay to each other in the last epoch."""
        return self._cosines.means()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed stage needs beside parameters and optimiser."""
        return {
            "weighting": self._weighting.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": self._average.state_dict() if self._average else {},
            "affinity": self.affinity.state_dict() if self.affinity else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
        self._weighting.load_state_dict(state["weighting"])
        self._scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        if self.affinity is not None:
            self.affinity.load_state_dict(state["affinity"])

    def _batches(self, epoch: int) -> Iterator[tuple[Batch, BatchStats]]:
        """The epoch's batches, each with what all ranks know of it."""
        scale = torch.ones((), device=self._world.device)
        batches = self._train.epoch(epoch, self._kept)
        done, total = self.steps * (epoch - 1), self.steps * self._epochs
        while window := deque(islice(batches, _WINDOW)):
            counts = torch.tensor([[batch.counts[task.name] for task in self._losses.tasks] for batch in window])
            self._times += (counts > 0).sum(0)
            shares = torch.where(counts > 0, counts, 1).float().reciprocal().to(self._world.device).unbind()
            full = (counts > 0).all(1).tolist()
            for number in range(len(window)):
                present = None if full[number] else counts[number] > 0
                # Taken out, so that no batch outlives its step with all that it has picked.
                yield (
                    window.popleft(),
                    BatchStats(shares[number], present, self._train.rows, self._train.starts, done / total, scale),
                )
                done += 1

    def _update(self, batch: Batch, stats: BatchStats, model: nn.Module) -> Tensor:
        """One update; the task losses of the global batch, (tasks,)."""
        learning = self._freezing.learning
        for parameter in learning:
            parameter.grad = None
        stats = stats if not self._world.scales else stats.scaled(self._scaler.scale(stats.scale))
        balanced = self._balancing.backward(batch, model, stats)
        self._weight_sum += balanced.weights
        self._cosines.add(balanced.gramian)
        self._scaler.unscale_(self._optimizer)
        if self._pull is not None:
            self._pull.add()
        if self._measuring is not None:
            self._measuring.learn(batch, stats.shares, learning, self.learning_rate)
        if self._clip is not None:
            nn.utils.clip_grad_norm_(learning, self._clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._average is not None:
            self._average.update()
        return balanced.losses

    def _set_learning_rate(self, factor: float) -> None:
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        self.learning_rate = self._peaks[0] * factor
