"""The loop: epochs of one stage, from a start to the best epoch on validation.

Fine-tuning one task and joint training are this same loop; only the model's tasks and the start differ. ``stages``
calls it, ``step`` makes the updates, a ``Control`` hears of every epoch and may stop it.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mtl_search.balancing.source_tasks import NO_SOURCE_TASKS, SourceTasks
from mtl_search.data.batching import DeviceSplit
from mtl_search.errors import StorageError, TrialError
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Schedule, seed_from
from mtl_search.results.objective import Objective
from mtl_search.storage.checkpoint import load_checkpoint, save_checkpoint
from mtl_search.storage.paths import StoragePath
from mtl_search.storage.reports import EpochReport
from mtl_search.training.activations import Activations
from mtl_search.training.calibration import Calibration
from mtl_search.training.control import Control
from mtl_search.training.episodes import Episodes
from mtl_search.training.evaluation import evaluate
from mtl_search.training.freezing import optimizer_of
from mtl_search.training.frozen_prefix import FrozenPrefix
from mtl_search.training.step import Step
from mtl_search.training.torchmetrics_import import Metric
from mtl_search.transfer import DECAYS
from mtl_search.transfer.bases.learned import MetaLearned
from mtl_search.variants.building import build
from mtl_search.weighting.base import Weighting

CHECKPOINT_SHARE = 0.05
"""Largest part of a stage's time that goes into writing checkpoints."""


@dataclass
class Progress:
    """What a stage has come to so far.

    Attributes:
        history: One report per finished epoch; epoch 0 is the start, before any training.
        best_epoch: Epoch with the highest score; -1 before the first.
        best_score: That score; higher is better.
        best_state: Parameters and buffers of that epoch.
        stopped: Whether the control ended the stage early.
        affinity: Of each task to every other, where it was measured.
    """

    history: list[EpochReport] = field(default_factory=list)
    best_epoch: int = -1
    best_score: float = float("-inf")
    best_state: dict[str, Tensor] = field(default_factory=dict)
    stopped: bool = False
    affinity: dict[str, dict[str, float]] = field(default_factory=dict)


class Loop:
    """Trains one model for the epochs of a schedule.

    Args:
        model: At its start, on the world's device.
        splits: Training and validation split on that device.
        schedule: Epochs, batch size, optimiser, learning rate, freezing, penalty, averaging, patience.
        weighting: Turns the task losses into one update.
        objective: Picks the best epoch.
        metrics: Main metric by task.
        seed: Row order and dropout depend on it and the epoch alone.
        world: The group that trains together.
        folder: Where checkpoints go.
        base: Starting parameters of the blocks, on the device.
        activations: Where those of frozen blocks are kept.
        affinity: Task affinity to measure on the way; empty for none.
        auxiliaries: The source tasks among the model's.
        meta: A base to be learned in episodes; None for ordinary training.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        splits: Mapping[str, DeviceSplit],
        schedule: Schedule,
        weighting: Weighting,
        objective: Objective,
        metrics: Mapping[str, Metric | None],
        seed: int,
        world: DistributedContext,
        folder: StoragePath,
        base: Mapping[str, Tensor],
        activations: Activations,
        affinity: str = "",
        auxiliaries: SourceTasks = NO_SOURCE_TASKS,
        meta: MetaLearned | None = None,
    ) -> None:
        self._model, self._world, self._folder = model, world, folder
        self._schedule, self._seed = schedule, seed
        self._validation = splits["validation"]
        self._objective, self._metrics = objective, metrics
        self._optimizer = optimizer_of(model, schedule)
        self._prefix = FrozenPrefix(model, world, activations)
        train, prefix = splits["train"], self._prefix
        self._step: Step | Episodes = (
            Episodes(meta, model, train, seed, world)
            if meta is not None
            else Step(
                model, train, schedule, weighting, self._optimizer, seed, world, base, prefix, affinity, auxiliaries
            )
        )
        self._calibration = Calibration(model, train, schedule, world, prefix)
        self._decay = build(DECAYS, schedule.decay)
        self._progress = Progress()
        self._saved, self._next_save = -1, 0.0

    def run(self, control: Control) -> Progress:
        """Train to the end of the schedule, or until the control stops it; resume where a checkpoint stands.

        Where patience is at an end the schedule is too: the stage is as finished as after its last epoch.

        Returns:
            The progress, with the best epoch's parameters.

        Raises:
            TrialError: A loss or the score became NaN or infinite.
        """
        for epoch in range(self._resume(control), self._schedule.epochs + 1):
            if epoch and self._out_of_patience(epoch - 1):
                break
            if epoch and not control.proceed(epoch - 1):
                self._progress.stopped = True
                self._save(epoch - 1)
                break
            started = time.monotonic()
            if self._schedule.epochs:
                self._step.enter(max(epoch, 1))  # the start is judged with what holds still in the first epoch
            losses = self._train(epoch) if epoch else {}
            with self._step.judged():
                if self._schedule.epochs:  # without any training the model stays what it was
                    self._calibration.calibrate_learning()
                report = self._assess(epoch, losses, started)
            if 0 < epoch < self._schedule.epochs and time.monotonic() >= self._next_save:
                self._save(epoch)
            if self._world.rank == 0:
                control.report(report)
        if self._step.affinity is not None:
            self._progress.affinity = self._step.affinity.means()
        return self._progress

    def _out_of_patience(self, epoch: int) -> bool:
        patience = self._schedule.patience
        return patience is not None and epoch - self._progress.best_epoch >= patience

    def _train(self, epoch: int) -> dict[str, float]:
        """One epoch of updates; mean training loss by task over the global batches."""
        torch.manual_seed(seed_from(self._seed, epoch, self._world.rank))
        total = self._step.steps * self._schedule.epochs
        done = self._step.steps * (epoch - 1)
        losses = self._step.run_epoch(epoch, lambda step: self._decay.factor(done + step, total))
        means = {task.name: float(loss) for task, loss in zip(self._model.tasks, losses, strict=True)}
        for name, loss in means.items():
            if not math.isfinite(loss):
                raise TrialError(f"diverged: training loss of task {name} is {loss} in epoch {epoch}")
        return means

    def _assess(self, epoch: int, losses: Mapping[str, float], started: float) -> EpochReport:
        passes = self._prefix.validation([self._validation.inputs[name] for name in self._model.datasets])
        results = evaluate(self._model, self._validation, self._metrics, self._world, passes)
        metrics = {task: result["metric"] for task, result in results.items()}
        for name, result in results.items():
            if not math.isfinite(result["loss"]):
                raise TrialError(f"diverged: validation loss of task {name} is {result['loss']} in epoch {epoch}")
            if not math.isfinite(result["metric"]):
                raise TrialError(
                    f"validation metric of task {name} is {result['metric']} in epoch {epoch}, though its loss is "
                    f"{result['loss']:.4g}: it is not defined for these predictions"
                )
        score = self._objective.score(metrics)
        progress = self._progress
        if score > progress.best_score:
            progress.best_epoch, progress.best_score = epoch, score
            progress.best_state = {key: value.detach().clone() for key, value in self._model.state_dict().items()}
        report = EpochReport(
            epoch,
            score,
            progress.best_score,
            metrics,
            validation_loss={task: result["loss"] for task, result in results.items()},
            training_loss=dict(losses),
            weights=self._step.weights_used() if epoch else {},
            cosines=self._step.mean_cosines() if epoch else {},
            lr=self._step.learning_rate,
            seconds=time.monotonic() - started,
            improvement=self._objective.improvement(metrics) if self._objective.compares else None,
        )
        progress.history.append(report)
        return report

    def _save(self, epoch: int) -> None:
        """Write a checkpoint; the next is due when this one's cost is a small part of the time."""
        if epoch == self._saved or self._world.rank:
            return
        started = time.monotonic()
        progress = self._progress
        state = {
            "epoch": epoch,
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self._step.state_dict(),
            "history": [report.to_dict() for report in progress.history],
            "best_epoch": progress.best_epoch,
            "best_score": progress.best_score,
            "best_state": progress.best_state,
        }
        save_checkpoint(self._folder, state)
        self._saved = epoch
        ended = time.monotonic()
        self._next_save = ended + (ended - started) / CHECKPOINT_SHARE

    def _resume(self, control: Control) -> int:
        """Go back to the last checkpoint, if there is one; the epoch to run next.

        The control hears the whole history again: whoever listens now may not have heard it.
        """
        state = load_checkpoint(self._folder, self._world.device) if self._world.rank == 0 else None
        if not self._world.agree(state is not None):
            return 0
        if state is None:
            state = load_checkpoint(self._folder, self._world.device)
        if state is None:
            raise StorageError(f"rank {self._world.rank} cannot read the checkpoint in {self._folder} that rank 0 read")
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._step.load_state_dict(state["step"])
        history = [EpochReport.from_dict(report) for report in state["history"]]
        self._progress = Progress(history, state["best_epoch"], state["best_score"], state["best_state"])
        if self._world.rank == 0:
            for report in self._progress.history:
                control.report(report)
        self._saved = int(state["epoch"])
        return self._saved + 1
