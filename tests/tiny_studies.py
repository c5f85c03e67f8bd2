"""Small real workloads, recipes and their jobs, for tests of the pool and the search."""

from pathlib import Path
from typing import Any

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.study_data import load_data
from mtl_search.pool.jobs import Job
from mtl_search.recipe import Component, Recipe, Schedule
from mtl_search.results.objective import Objective
from mtl_search.storage.reports import StageResult
from mtl_search.storage.stage_results import read_result
from mtl_search.training.metrics import task_goals
from mtl_search.training.stages import CLOCKED, Stage
from mtl_search.training.workspace import Workload

TASKS = {
    "kind": {"kind": "classification", "target": "target"},
    "petal": {"kind": "regression", "target": "petal width (cm)"},
}
INPUTS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)"]
SOURCE = {"sklearn": {"name": "iris", "inputs": INPUTS}}


def workload(folder: Path, function: str = "blocks") -> Workload:
    """Two tasks on iris, and a backbone whose traps are set in ``folder``."""
    data = load_data(
        DataConfig.model_validate({"source": SOURCE}),
        {name: TaskConfig.model_validate(task) for name, task in TASKS.items()},
        seed=0,
    )
    backbone = Component("python", {"function": f"trapped_backbone:{function}", "params": {"folder": str(folder)}})
    return Workload.prepare(data, backbone, 0, "fp32")


def recipe(batch_size: int = 16, epochs: int = 3, lr: float = 0.01, single_batch: int = 16) -> Recipe:
    """A recipe of a few steps."""
    return Recipe(
        sharing=Component("hard", {"depth": 1}),
        fusion=Component("mean"),
        weighting=Component("fixed", {"log_ratio": 0.5}),
        single_task=Schedule(epochs=2, batch_size=single_batch, optimizer=Component("adamw", {"lr": 0.01})),
        joint=Schedule(epochs=epochs, batch_size=batch_size, optimizer=Component("adamw", {"lr": lr})),
    )


def single_job(study: Workload, task: str, of: Recipe, folder: Path) -> Job:
    """One task's fine-tuning, in a folder below ``folder``, which is the job's key too: tests share a job queue."""
    key = f"single-{task}-{of.key}"
    objective = Objective({task: task_goals(study.data)[task]}, task)
    stage = Stage(key, "single_task", (task,), of, str(folder / key), objective)
    return Job(stage.folder, stage)


def jobs(study: Workload, of: Recipe, folder: Path, name: str = "", **options: Any) -> list[Job]:
    """A recipe's single-task jobs, shared by all names, and its joint one, made anew for every name."""
    singles = [single_job(study, task, of, folder) for task in TASKS]
    folders = {job.payload.tasks[0]: job.payload.folder for job in singles}
    objective = Objective(task_goals(study.data), "petal")
    key = f"joint-{of.key}"
    stage = Stage(key, "joint", tuple(TASKS), of, str(folder / f"{name}{key}"), objective, folders)
    return [*singles, Job(stage.folder, stage, tuple(job.key for job in singles), **options)]


def told(stage_result: StageResult | None) -> dict[str, Any]:
    """A result as it is stored, without what the clock says."""
    assert stage_result is not None
    result = stage_result.to_dict()
    timed = set(CLOCKED)
    history = [{name: value for name, value in epoch.items() if name not in timed} for epoch in result["history"]]
    return {name: value for name, value in result.items() if name not in timed} | {"history": history}


def files(folder: str) -> tuple[bytes, dict[str, Any]]:
    """What a finished stage left: the model's bytes and its result."""
    assert sorted(path.name for path in Path(folder).iterdir()) == ["model.safetensors", "result.json"]
    return (Path(folder) / "model.safetensors").read_bytes(), told(read_result(Path(folder) / "result.json"))
