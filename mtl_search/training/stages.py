"""Stages: one job's worth of training, from its description to files on disk.

``pretrain`` learns a base from source tasks; ``single_task`` fine-tunes the base on one task; ``joint`` fuses the
single-task models as its recipe says and trains them together; ``evaluation`` judges one finished model on a split. A
worker group carries these out, and so can a plain script.
"""

import math
import re
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from mtl_search.balancing.source_tasks import SourceTasks
from mtl_search.errors import TrialError
from mtl_search.models.cost import count_parameters, multiply_adds
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Recipe, seed_from
from mtl_search.results.objective import Objective
from mtl_search.storage.checkpoint import load_model
from mtl_search.storage.files import RESULT_FILE
from mtl_search.storage.paths import StoragePath, storage_path
from mtl_search.storage.reports import StageResult
from mtl_search.storage.stage_results import step_gains, whole_result_in, whole_single, write_results
from mtl_search.training.built_recipe import BuiltRecipe
from mtl_search.training.calibration import Calibration
from mtl_search.training.control import Control, NoControl
from mtl_search.training.evaluation import evaluate
from mtl_search.training.fusing import fused_model
from mtl_search.training.loop import Loop, Progress
from mtl_search.training.metrics import check_metric, task_goals
from mtl_search.training.resampling import evaluate_resampled
from mtl_search.training.workspace import Workspace
from mtl_search.transfer.bases.learned import LearnedBase, MetaLearned
from mtl_search.weighting import WEIGHTINGS

_MIB = 1 << 20


class PeakMemory:
    """Watches from its making on.

    Args:
        device: Where the stage runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the peak so far (man 5 proc)
        except OSError:  # not Linux, or not allowed: the peak then is that of the process's whole life
            self._resets = False
        else:
            self._resets = True

    def mib(self) -> float:
        """The most so far, in MiB."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / _MIB
        if self._resets:
            found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
            if found is not None:
                return int(found[1]) / 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


CLOCKED = ("seconds", "epoch_seconds", "wall_seconds", "worker_seconds", "peak_mib")
"""What of a result tells of the machine, not of the model."""


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe as plain data.

    Attributes:
        key: Content key; equal stages give equal results, so its folder can be reused.
        kind: What is done.
        tasks: Names of the tasks trained or judged, in the study's order; source tasks last.
        recipe: The concrete choice; a single-task stage reads its ``single_task`` schedule only.
        folder: Where model, result and checkpoint go.
        objective: What picks the best epoch.
        singles: Folder of the single-task model by task (joint stages).
        affinity: Task affinity that a joint stage measures on the way, ``cosine`` or ``look_ahead``; empty for none.
        base: Folder of the base; empty for random parameters.
        sources: Those of a joint stage's tasks that are only learned from.
        run: Which fresh seed everything is drawn from; 0 for the study's own.
        split: What an evaluation judges the finished model of the folder on.
        draws: How often an evaluation draws rows with replacement and judges the model on them too.
    """

    key: str
    kind: Literal["pretrain", "single_task", "joint", "evaluation"]
    tasks: tuple[str, ...]
    recipe: Recipe
    folder: str
    objective: Objective = field(default_factory=Objective)
    singles: Mapping[str, str] = field(default_factory=dict)
    affinity: str = ""
    base: str = ""
    sources: tuple[str, ...] = ()
    run: int = 0
    split: str = "test"
    draws: int = 0

    @property
    def location(self) -> StoragePath:
        """Its folder as a path."""
        return storage_path(self.folder)


def is_finished(stage: Stage) -> StageResult | None:
    """The result of a training stage that has ended, if its folder holds one whose model is as it was written."""
    return None if stage.kind == "evaluation" else whole_result_in(stage.location)


def run_stage(stage: Stage, workspace: Workspace, control: Control | None = None) -> StageResult:
    """Carry out a stage on every rank of a group; rank 0 writes the files.

    Args:
        stage: What to do.
        workspace: This worker's data, base and world.
        control: Hears of every epoch and may stop the stage.

    Returns:
        What the stage came to.

    Raises:
        TrialError: Training diverged.
    """
    started = time.monotonic()
    if stage.kind == "evaluation":
        return _evaluate(stage, workspace)
    _retrain_damaged(stage, workspace)
    workspace = workspace.seeded(stage.run)
    watch = PeakMemory(workspace.world.device)
    model = _start(stage, workspace)
    parts = BuiltRecipe(stage.recipe)
    seed = seed_from(workspace.workload.seed, stage.key)
    base = _learned_base(stage, parts)
    loop = Loop(
        model,
        workspace.splits,
        base.schedule if base else stage.recipe.joint if stage.kind == "joint" else stage.recipe.single_task,
        parts.weighting if stage.kind == "joint" else WEIGHTINGS[next(iter(WEIGHTINGS))](),
        _objective(stage, model, workspace, base),
        workspace.metrics,
        seed,
        workspace.world,
        stage.location,
        workspace.base_of(stage.base),
        workspace.activations,
        stage.affinity,
        SourceTasks(parts.auxiliary, len(stage.sources)),
        base if isinstance(base, MetaLearned) else None,
    )
    progress = loop.run(control or NoControl())
    model, state = _write_model(stage, model, progress.best_state, workspace)
    result = _result(stage, progress, model, workspace, watch, started)
    if workspace.world.rank == 0:
        write_results(stage.location, state, result)
    workspace.world.agree(True)  # no rank goes on to a stage that needs this one's files before they are there
    return result


def _result(
    stage: Stage,
    progress: Progress,
    model: MultiTaskModel,
    workspace: Workspace,
    watch: PeakMemory,
    started: float,
) -> StageResult:
    """What a training stage came to; ``model`` is the one that is kept."""
    history = progress.history
    best = next(report for report in history if report.epoch == progress.best_epoch)
    joint = stage.kind == "joint"
    made_steps = step_gains(stage.singles, history[0].metrics, best.metrics) if joint else {}
    peak_mib = workspace.world.largest(watch.mib())
    wall_seconds = time.monotonic() - started
    return StageResult(
        key=stage.key,
        kind=stage.kind,
        tasks=stage.tasks,
        metrics=best.metrics,
        best_epoch=progress.best_epoch,
        best_score=progress.best_score,
        history=tuple(history),
        stopped=progress.stopped,
        affinity=progress.affinity,
        parameters=count_parameters(model),
        multiply_adds=multiply_adds(model, workspace.workload.data.preparation.feature_shape),
        recipe=stage.recipe.to_dict() if joint else {},
        steps=made_steps,
        seconds=sum(report.seconds for report in history),
        epoch_seconds=min((report.seconds for report in history[1:]), default=0.0),
        peak_mib=peak_mib,
        wall_seconds=wall_seconds,
        worker_seconds=wall_seconds * workspace.world.size,
    )


def _retrain_damaged(stage: Stage, workspace: Workspace) -> None:
    """Make the single-task models anew that a joint stage needs and finds damaged; they were whole when it was made."""
    goals = task_goals(workspace.workload.data)
    for task, folder in stage.singles.items():
        objective = Objective({task: goals[task]}, task)
        key = folder.rstrip("/").rpartition("/")[2]
        single = Stage(key, "single_task", (task,), stage.recipe, folder, objective, base=stage.base, run=stage.run)
        sound = workspace.world.rank != 0 or whole_single(folder)
        if not workspace.world.agree(sound):
            run_stage(single, workspace)


def _start(stage: Stage, workspace: Workspace) -> MultiTaskModel:
    """The model a stage starts from: the base with fresh heads, or the fusion of the single-task models."""
    if stage.kind != "joint":
        return workspace.model(stage.tasks, None, base=stage.base)
    return fused_model(stage.tasks, stage.recipe, stage.singles, workspace, stage.base)


def _write_model(
    stage: Stage, model: MultiTaskModel, state: Mapping[str, Tensor], workspace: Workspace
) -> tuple[MultiTaskModel, dict[str, Tensor]]:
    """The model that is counted and kept, and its state: without alignment, and without source tasks if it can be."""
    model.alignment = None
    if stage.sources:
        plan = model.plan
        tasks = workspace.workload.kept_tasks(stage.tasks, stage.recipe.sharing)
        model = workspace.model(tasks, stage.recipe.sharing)
        state = {name: state[model.plan.place_in(plan, name)] for name in model.state_dict()}
    return model, {name: state[name] for name in model.state_dict()}


def _learned_base(stage: Stage, parts: BuiltRecipe) -> LearnedBase | None:
    """What a ``pretrain`` stage learns; None for any other stage."""
    if stage.kind != "pretrain":
        return None
    assert isinstance(parts.base, LearnedBase)
    return parts.base


def _objective(stage: Stage, model: MultiTaskModel, workspace: Workspace, base: LearnedBase | None) -> Objective:
    """What picks the best epoch; in pretraining the gains over the network as it was before."""
    if base is None:
        return stage.objective
    splits, world = workspace.splits, workspace.world
    Calibration(model, splits["train"], base.schedule, world).calibrate_learning()  # as the loop does for its start
    start = evaluate(model, splits["validation"], workspace.metrics, world)
    goals = stage.objective.goals
    return Objective({task: replace(goal, baseline=start[task]["metric"]) for task, goal in goals.items()})


def evaluation_of(stage: Stage, split: str, draws: int) -> Stage:
    """The stage that judges the model which another stage has left.

    Args:
        stage: That other stage.
        split: What the model is judged on.
        draws: How often rows of it are drawn with replacement, to judge the model on them too.
    """
    return replace(stage, key=f"{split}-{draws}-{stage.key}", kind="evaluation", split=split, draws=draws)


def _evaluate(stage: Stage, workspace: Workspace) -> StageResult:
    """Metrics of a finished model on a split, by task: ``metrics``, and on each draw of rows ``resampled``.

    A task whose metric is not defined on the labels of the split, or of the validation split, is left out.
    """
    model, split = trained_model(stage, workspace), workspace.split(stage.split)
    metrics = {
        task.name: metric
        for task in model.tasks
        if (metric := workspace.metrics[task.name]) is not None
        and not check_metric(task, metric, split.targets[task.name], split.masks[task.name]).broken
    }
    found = evaluate_resampled(model, split, metrics, workspace.world, stage.draws)
    found = {task: judged for task, judged in found.items() if math.isfinite(judged["metric"])}
    return StageResult(
        key=stage.key,
        kind=stage.kind,
        metrics={task: judged["metric"] for task, judged in found.items()},
        resampled={task: judged["resampled"] for task, judged in found.items()},
    )


def trained_model(stage: Stage, workspace: Workspace) -> MultiTaskModel:
    """The model that a finished stage left in its folder.

    Raises:
        TrialError: The folder holds no model.
        DamagedError: The model is not what was written.
    """
    folder = stage.location
    if not (folder / RESULT_FILE).exists():
        raise TrialError(f"no finished model in {folder}")
    tasks = workspace.workload.kept_tasks(stage.tasks, stage.recipe.sharing)
    model = workspace.model(tasks, stage.recipe.sharing)
    model.load_state_dict(load_model(folder))
    return model
