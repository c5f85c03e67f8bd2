"""Stages on rows that stay on disk give the models and histories of rows in memory, to the bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from groups_of_two import in_a_group_of_two
from small_workloads import BATCH_NORM, MLP, joint_stage, recipe_of, same, single_stages, workload_of
from stage_outcomes import files_of, judged, timeless

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.study_data import StudyData, load_data
from mtl_search.models.distributed import DistributedContext
from mtl_search.recipe import Component, Recipe, Schedule
from mtl_search.training.stages import run_stage
from mtl_search.training.workspace import Workload, Workspace

ADAMW = Component("adamw", {"lr": 0.01})
SCHEDULE = Schedule(2, 32, ADAMW)
NEVER = Component("never")


@pytest.fixture(scope="module", autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("records")))
        yield


def data_sets(folder: Path, rows: dict[str, int], *, stream: bool) -> StudyData:
    """A table for each of some data sets, of unequal sizes; the task ``kind`` on the first, ``size`` on the last."""
    names = list(rows)
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        x = {f"x{column}": rng.normal(size=rows[name]).astype(np.float32) for column in range(7)}
        kind = np.where(x["x0"] + x["x1"] > 0, "up", "down")
        size = np.where(rng.random(rows[name]) < 0.2, np.nan, x["x2"] * 2)
        pq.write_table(pa.table({**x, "kind": kind, "size": size}), folder / f"{name}.parquet", row_group_size=50)
    data = {"sources": {name: {"table": {"path": str(folder / f"{name}.parquet")}} for name in names}, "stream": stream}
    tasks = {
        "kind": {"kind": "binary", "target": "kind", "data": names[0]},
        "size": {"kind": "regression", "target": "size", "data": names[-1]},
    }
    return load_data(
        DataConfig.model_validate(data), {name: TaskConfig.model_validate(task) for name, task in tasks.items()}, 0
    )


def outcome(workload: Workload, recipe: Recipe, folder: Path, world: DistributedContext | None = None) -> Any:
    workspace = Workspace(workload, world or DistributedContext())
    stage = joint_stage(workspace, recipe, folder)
    result = timeless(run_stage(stage, workspace))
    alone = {task: files_of(each)[1] for task, each in single_stages(workspace, recipe, folder).items()}
    return {**result, "test": judged(stage, workspace)}, files_of(stage)[1], alone


RECIPES: dict[str, tuple[Component, dict[str, Component], Schedule]] = {
    "plain": (MLP, {}, SCHEDULE),
    "balanced": (MLP, {"weighting": Component("mgda")}, SCHEDULE),
    "rows kept aside": (MLP, {"weighting": Component("auto_lambda")}, SCHEDULE),
    "learned fusion": (MLP, {"fusion": Component("learned", {"steps": 5})}, SCHEDULE),
    "measured fusion": (MLP, {"fusion": Component("fisher")}, SCHEDULE),
    "batch norm": (BATCH_NORM, {}, SCHEDULE),
    "frozen blocks": (MLP, {}, Schedule(2, 32, ADAMW, unfreezing=NEVER)),
}


@pytest.mark.parametrize("rows", [{"main": 300}, {"large": 300, "small": 60}], ids=["one data set", "two"])
@pytest.mark.parametrize("case", RECIPES)
def test_stages_are_those_of_rows_in_memory(case: str, rows: dict[str, int], tmp_path: Path) -> None:
    backbone, parts, schedule = RECIPES[case]
    recipe = recipe_of(schedule, SCHEDULE, **parts)
    found = []
    for stream in (False, True):
        workload = workload_of(data_sets(tmp_path, rows, stream=stream), backbone)
        found.append(outcome(workload, recipe, tmp_path / str(stream)))
    memory, disk = found
    assert disk[0] == memory[0]
    assert same(disk[1], memory[1])
    assert all(same(disk[2][task], memory[2][task]) for task in memory[2])


def trained_by_two(world: DistributedContext, folder: Path) -> None:
    found = []
    for stream in (False, True):
        own = folder / f"{stream}{world.rank}"
        own.mkdir()
        workload = workload_of(data_sets(own, {"main": 300}, stream=stream))
        found.append(outcome(workload, recipe_of(SCHEDULE, SCHEDULE), folder / f"{stream}", world))
    memory, disk = found
    assert disk[0] == memory[0]
    assert same(disk[1], memory[1])


def test_two_workers_read_their_own_rows(tmp_path: Path) -> None:
    in_a_group_of_two(trained_by_two, tmp_path, tmp_path)
