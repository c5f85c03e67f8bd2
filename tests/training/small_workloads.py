"""Small real workloads for the training tests: sources, backbones and recipes that spawned processes can import too."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.study_data import StudyData, load_data
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Component, Recipe, Schedule
from mtl_search.results.objective import Goal, Objective
from mtl_search.training.stages import Stage, is_finished, run_stage
from mtl_search.training.step import Step
from mtl_search.training.workspace import Workload, Workspace
from mtl_search.transfer import OPTIMIZERS
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS
from mtl_search.weighting.base import Weighting

EVERY_KIND: dict[str, Any] = {
    "digit": {"kind": "classification", "target": "digit", "missing": -1},
    "odd": {"kind": "binary", "target": "odd", "missing": -1, "metric": "auroc"},
    "ink": {"kind": "regression", "target": "ink"},
    "halves": {"kind": "multilabel", "target": "halves"},
}
WEIGHED: dict[str, Any] = {
    "digit": {**EVERY_KIND["digit"], "class_weight": "balanced", "loss": {"cross_entropy": {"label_smoothing": 0.1}}},
    "odd": {**EVERY_KIND["odd"], "weight": "share", "loss": "focal"},
    "ink": {**EVERY_KIND["ink"], "weight": "share"},
    "halves": {**EVERY_KIND["halves"], "class_weight": "balanced", "weight": "share"},
    "grade": {"kind": "ordinal", "target": "digit", "missing": -1, "weight": "share"},
}
"""Tasks whose rows and labels do not count the same; a row in four counts nothing."""
STEP_SEED = 11
MLP = Component("mlp", {"width": 12, "depth": 2})
BATCH_NORM = Component("python", {"function": "small_workloads:blocks_with_batch_norm"})


def images(first: int, rows: int, holes: bool) -> dict[str, dict[str, np.ndarray]]:
    """Handwritten digits, their upper half as input; with holes, every task lacks some of its labels."""
    bunch = load_digits()
    x, digit = bunch.data[first : first + rows], bunch.target[first : first + rows]
    lower = x[:, 32:].reshape(rows, 2, 16).mean(axis=2)
    columns = {
        "x": x[:, :32],
        "digit": digit.astype(np.int64),
        "odd": digit % 2,
        "ink": lower.sum(axis=1),
        "halves": (lower > np.median(lower, axis=0)).astype(np.float64),
        "share": (digit % 4) / 8,
    }
    if holes:
        gone = np.random.default_rng(first).random((4, rows)) < 0.3
        columns["digit"][gone[0]] = -1
        columns["odd"][gone[1]] = -1
        columns["ink"][gone[2]] = np.nan
        columns["halves"][gone[3], 0] = np.nan
    return {"train": columns}


def blocks_with_batch_norm(input_shape: tuple[int, ...]) -> list[nn.Module]:
    return [
        nn.Sequential(nn.Linear(input_shape[0], 12), nn.BatchNorm1d(12), nn.ReLU()),
        nn.Sequential(nn.Linear(12, 8), nn.ReLU()),
    ]


def data_of(tasks: dict[str, Any], *, rows: int = 260, holes: bool = True) -> StudyData:
    """One data set; its tasks as in a study file."""
    return _load({"source": _source(0, rows, holes)}, tasks)


def two_data_sets(rows: tuple[int, int] = (230, 47), *, metric: str = "auroc", holes: bool = True) -> StudyData:
    """Two data sets of different sizes: ``digit`` and ``ink`` on the large one, ``odd`` on the small one."""
    tasks = {
        "digit": {**EVERY_KIND["digit"], "data": "large"},
        "odd": {**EVERY_KIND["odd"], "data": "small", "metric": metric},
        "ink": {**EVERY_KIND["ink"], "data": "large"},
    }
    return _load({"sources": {"large": _source(0, rows[0], holes), "small": _source(400, rows[1], holes)}}, tasks)


def _source(first: int, rows: int, holes: bool) -> dict[str, Any]:
    params = {"first": first, "rows": rows, "holes": holes}
    return {"python": {"function": "small_workloads:images", "params": params, "inputs": ["x"]}}


def with_source_tasks() -> StudyData:
    """``ink`` on the small data set; ``digit`` and ``odd`` on the large one are only learned from."""
    task_datasets = {"ink": "small", "digit": "large", "odd": "large"}
    tasks = {name: {**EVERY_KIND[name], "data": home} for name, home in task_datasets.items()}
    sources = {"large": _source(0, 230, True), "small": _source(400, 90, True)}
    own = {"ink": tasks.pop("ink"), "dark": {"kind": "regression", "target": "ink", "data": "small", "metric": "mae"}}
    return _load({"sources": sources}, own, tasks)


def _load(data: dict[str, Any], tasks: dict[str, Any], source_tasks: dict[str, Any] | None = None) -> StudyData:
    chosen, sources = (
        {name: TaskConfig.model_validate(task) for name, task in given.items()} for given in (tasks, source_tasks or {})
    )
    return load_data(DataConfig.model_validate(data), chosen, 1, sources)


def workload_of(data: StudyData, backbone: Component = MLP) -> Workload:
    return Workload.prepare(data, backbone, seed=3, precision="fp32")


def workspace_of(data: StudyData, backbone: Component = MLP, world: DistributedContext | None = None) -> Workspace:
    return Workspace(workload_of(data, backbone), world or DistributedContext())


def recipe_of(joint: Schedule, single: Schedule | None = None, depth: int | None = None, **parts: Component) -> Recipe:
    hard = Component("hard", {} if depth is None else {"depth": depth})
    chosen = {"sharing": hard, "fusion": Component("mean"), "weighting": Component("fixed"), **parts}
    return Recipe(single_task=single or Schedule(2, 32), joint=joint, **chosen)


def goals_of(workspace: Workspace) -> dict[str, Goal]:
    return {name: Goal(bool(metric.higher_is_better)) for name, metric in workspace.metrics.items()}


def single_stages(workspace: Workspace, recipe: Recipe, folder: Path) -> dict[str, Stage]:
    """The stage of every task's single-task model."""
    return {
        task: Stage(f"{task} alone", "single_task", (task,), recipe, str(folder / task), Objective({task: goal}, task))
        for task, goal in goals_of(workspace).items()
    }


def joint_stage(workspace: Workspace, recipe: Recipe, folder: Path, name: str = "joint") -> Stage:
    """The joint stage over finished single-task models; these are its baselines too."""
    singles = single_stages(workspace, recipe, folder)
    results = {task: is_finished(stage) or run_stage(stage, workspace) for task, stage in singles.items()}
    goals = {
        task: Goal(goal.higher_is_better, results[task].metrics[task]) for task, goal in goals_of(workspace).items()
    }
    folders = {task: stage.folder for task, stage in singles.items()}
    return Stage(name, "joint", tuple(goals), recipe, str(folder / name), Objective(goals), folders)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two states are equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def model_of(workspace: Workspace, tasks: tuple[str, ...] | None = None, depth: int | None = None) -> MultiTaskModel:
    names = tasks or tuple(task.name for task in workspace.workload.data.tasks)
    return workspace.model(names, recipe_of(Schedule(), depth=depth).sharing if len(names) > 1 else None)


def step_of(
    workspace: Workspace, model: MultiTaskModel, schedule: Schedule, weighting: Weighting | None = None
) -> Step:
    optimizer = build(OPTIMIZERS, schedule.optimizer).build(model.parameters())
    chosen = weighting or build(WEIGHTINGS, Component("fixed"))
    return Step(model, workspace.splits["train"], schedule, chosen, optimizer, STEP_SEED, workspace.world)


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
