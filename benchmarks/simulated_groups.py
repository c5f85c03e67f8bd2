"""Worker groups that sleep instead of training: everything of a study is real but what a GPU would do.

They speak to the job queue word for word as ``pool.worker`` does, all of them in one light actor, so that 16
groups fit on two cores and the driver is what is measured.
"""

import asyncio
import pickle
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl_search.pool.jobs import Lease, Shutdown
from mtl_search.recipe import seed_from
from mtl_search.storage.files import RESULT_FILE, write_json
from mtl_search.storage.reports import EpochReport, StageResult

if TYPE_CHECKING:
    from mtl_search.training.stages import Stage

_POLL_SECONDS = 20.0
Span = tuple[float, float]
"""Beginning and end, by the machine's monotonic clock."""


class _Plain:
    """A stage to those who train nothing."""


class _Light(pickle.Unpickler):
    """Reads a stage without torch: real groups start it where they run, and these share the cores of the driver."""

    def find_class(self, module: str, name: str) -> Any:
        return _Plain if name == "Stage" else super().find_class(module, name)


class SimulatedGroups:
    """Groups of one worker each; a Ray actor.

    Args:
        epoch_seconds: How long an epoch of joint training takes.
    """

    def __init__(self, epoch_seconds: float) -> None:
        self._epoch_seconds = epoch_seconds

    async def serve(self, group: str, job_queue: Any) -> list[Span]:
        """One group's life; returns when it was in epochs of joint training."""
        who, taken, busy = (group, "only"), 0, list[Span]()
        await job_queue.join.remote(*who)
        while True:
            lease = await job_queue.take.remote(*who, taken, _POLL_SECONDS)
            if isinstance(lease, Shutdown):
                return busy
            if lease is not None:
                taken += 1
                busy += await self._carry_out(lease, who, job_queue)

    async def _carry_out(self, lease: Lease, who: tuple[str, str], job_queue: Any) -> list[Span]:
        stage: Stage = _Light(BytesIO(lease.job.payload)).load()
        if stage.kind == "evaluation":
            metrics = _metrics(stage, 0)
            resampled = {task: [metric] * stage.draws for task, metric in metrics.items()}
            result = StageResult(key=stage.key, kind="evaluation", metrics=metrics, resampled=resampled)
            await job_queue.finish.remote(*who, lease, result)
            return []
        history: list[EpochReport] = []
        epochs = (stage.recipe.joint if stage.kind == "joint" else stage.recipe.single_task).epochs
        seconds, stopped, busy = self._epoch_seconds if stage.kind == "joint" else 0.0, False, list[Span]()
        for epoch in range(1, epochs + 1):
            began = time.monotonic()
            await asyncio.sleep(seconds)
            if seconds:
                busy.append((began, time.monotonic()))
            history.append(_report(stage, epoch, history, seconds))
            await job_queue.report.remote(*who, lease, replace(history[-1], group=who[0]))
            if epoch < epochs and not await job_queue.proceed.remote(*who, lease, epoch):
                stopped = True
                break
        result = _result(stage, history, stopped)
        if not stopped:
            folder = Path(stage.folder)
            write_json(folder / RESULT_FILE, result.to_dict())
            (folder / "model.safetensors").touch()
        await job_queue.finish.remote(*who, lease, result)
        return busy


def _metrics(stage: "Stage", epoch: int) -> dict[str, float]:
    """Made-up metrics that depend on the recipe as a search expects, and a little on chance."""
    lr = stage.recipe.joint.optimizer.params.get("lr", 1e-3)
    rng = seed_from(0, stage.key, epoch)
    quality = 1.0 / (1.0 + abs(lr - 3e-3) / 3e-3) if stage.kind == "joint" else 0.5
    metrics = {}
    for place, task in enumerate(stage.objective.goals):
        noise = (seed_from(rng, place) % 1000) / 1e5
        better = quality * (0.9 + 0.02 * min(epoch, 5)) + noise
        goal = stage.objective.goals[task]
        metrics[task] = 0.5 + 0.3 * better if goal.higher_is_better else 1.0 - 0.5 * better
    return metrics


def _report(stage: "Stage", epoch: int, history: list[EpochReport], seconds: float) -> EpochReport:
    metrics = _metrics(stage, epoch)
    objective, tasks = stage.objective, list(stage.objective.goals)
    score = objective.score(metrics) if objective.compares or objective.kind in tasks else 0.0
    return EpochReport(
        epoch,
        score,
        best_score=max([score, *(report.best_score for report in history)]),
        metrics=metrics,
        validation_loss=dict.fromkeys(tasks, 0.5),
        training_loss=dict.fromkeys(tasks, 0.4),
        weights=dict.fromkeys(tasks, 1.0),
        lr=1e-3,
        seconds=seconds,
        improvement=objective.improvement(metrics) if objective.compares else None,
    )


def _result(stage: "Stage", history: list[EpochReport], stopped: bool) -> StageResult:
    best = max(history, key=lambda report: report.score)
    seconds = sum(report.seconds for report in history)
    steps = dict.fromkeys(("base", "single", "fused", "joint"), best.metrics)
    return StageResult(
        key=stage.key,
        kind=stage.kind,
        tasks=stage.tasks,
        metrics=best.metrics,
        best_epoch=best.epoch,
        best_score=best.best_score,
        history=tuple(history),
        stopped=stopped,
        parameters=1000,
        multiply_adds=1000,
        recipe=stage.recipe.to_dict() if stage.kind == "joint" else {},
        steps=steps if stage.kind == "joint" else {},
        seconds=seconds,
        epoch_seconds=history[0].seconds,
        peak_mib=10.0,
        wall_seconds=seconds,
        worker_seconds=seconds,
    )
