"""Targets far from zero, or of any size, are learned and judged as near zero; test figures are there or left out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from small_workloads import joint_stage, recipe_of, single_stages, workload_of

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.study_data import load_data
from mtl_search.models.distributed import DistributedContext
from mtl_search.recipe import Component, Schedule, content_key
from mtl_search.results.objective import Objective
from mtl_search.storage.checkpoint import state_key
from mtl_search.training.metrics import task_goals
from mtl_search.training.stages import evaluation_of, run_stage, trained_model
from mtl_search.training.workspace import Workspace

SCHEDULE = Schedule(6, 32, Component("adamw", {"lr": 0.01}))
TESTED = 40


def rows(center: float = 0.0, scale: float = 1.0, rare: str = "") -> dict[str, dict[str, np.ndarray]]:
    """Diabetes; the progression is moved and enlarged. Of the ill, none is in the test split if they are rare."""
    x, y = load_diabetes(return_X_y=True)
    train = {"x": x[:-TESTED], "y": y[:-TESTED] * scale + center, "ill": (y[:-TESTED] > 200).astype(int)}
    test = {"x": x[-TESTED:], "y": y[-TESTED:] * scale + center, "ill": (y[-TESTED:] > 200).astype(int)}
    if rare:
        test = {name: values[test["ill"] == 0][: 1 if rare == "one" else None] for name, values in test.items()}
    return {"train": train, "test": test}


def workspace_of(metric: str = "rmse", **params: Any) -> Workspace:
    source = {"python": {"function": "test_far_targets:rows", "params": params, "inputs": ["x"]}}
    tasks = {
        "y": {"kind": "regression", "target": "y", "metric": metric},
        "ill": {"kind": "binary", "target": "ill", "metric": "auroc"},
    }
    checked = {name: TaskConfig.model_validate(task) for name, task in tasks.items()}
    return Workspace(
        workload_of(load_data(DataConfig.model_validate({"source": source}), checked, seed=1)), DistributedContext()
    )


def judged_alone(workspace: Workspace, folder: Path) -> tuple[list[float], float]:
    """Validation metric of every epoch of the model of ``y`` alone, and its metric on test."""
    stage = single_stages(workspace, recipe_of(Schedule(), SCHEDULE), folder)["y"]
    history = run_stage(stage, workspace).history
    tested = run_stage(evaluation_of(stage, "test", 0), workspace).metrics["y"]
    rows = workspace.split("test").inputs["main"][:]
    assert len(trained_model(stage, workspace)(rows)["y"].unique()) == TESTED
    return [epoch.metrics["y"] for epoch in history], tested


@pytest.mark.parametrize(("metric", "power"), [("rmse", 1), ("r2", 0), ("mse", 2)])
@pytest.mark.parametrize(("center", "scale"), [(1.7e9, 1.0), (1e20, 1e17), (0.0, 1e-30)])
def test_a_task_far_from_zero_is_learned_and_judged_as_near_it(
    metric: str, power: int, center: float, scale: float, tmp_path: Path
) -> None:
    near, near_test = judged_alone(workspace_of(metric), tmp_path / "near")
    moved = workspace_of(metric, center=center, scale=scale)
    far, far_test = judged_alone(moved, tmp_path / "far")
    unit = scale**power
    assert [value / unit for value in far] == pytest.approx(near, rel=1e-3, abs=1e-4)
    assert far_test / unit == pytest.approx(near_test, rel=1e-3, abs=1e-4)
    natural = task_goals(workspace_of(metric).workload.data)["y"].scale
    assert task_goals(moved.workload.data)["y"].scale == pytest.approx(natural * (unit if power else 1), rel=1e-3)


def test_a_task_whose_metric_is_not_defined_on_test_is_left_out_there(tmp_path: Path) -> None:
    for rare, metric, left in (("all", "rmse", {"y"}), ("one", "r2", set())):
        workspace = workspace_of(metric, rare=rare)
        stage = joint_stage(workspace, recipe_of(SCHEDULE, SCHEDULE), tmp_path / rare)
        assert set(run_stage(stage, workspace).metrics) == {"y", "ill"}
        assert set(run_stage(evaluation_of(stage, "test", 0), workspace).metrics) == left
        alone = single_stages(workspace, recipe_of(SCHEDULE, SCHEDULE), tmp_path / rare)["ill"]
        assert run_stage(evaluation_of(alone, "test", 0), workspace).metrics == {}


def test_values_in_the_targets_unit_are_as_fine_as_the_outputs() -> None:
    workspace = workspace_of(center=1.7e9)
    task = workspace.workload.task("y")
    assert task.double
    assert not replace(task, center=100 * task.scale).double
    assert Objective(task_goals(workspace.workload.data)).goals["y"].scale == pytest.approx(task.scale, rel=0.2)
    assert workspace.splits["train"].targets["y"].dtype == torch.float32


def test_what_was_judged_in_float32_is_not_found_again() -> None:
    for center, found in ((0.0, True), (1.7e9, False)):
        workload = workspace_of(center=center).workload
        base = state_key({name: torch.from_numpy(np.array(value)) for name, value in workload.base.items()})
        before = (workload.data.key, workload.backbone.to_dict(), base, workload.seed, workload.precision, False)
        assert (workload.key == content_key(*before)) == found
