"""The same stage gives the same bits, whatever ran before it and wherever."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_workloads import (
    BATCH_NORM,
    EVERY_KIND,
    data_of,
    joint_stage,
    recipe_of,
    same,
    workload_of,
    workspace_of,
)
from stage_outcomes import files_of

from mtl_search.data.study_data import StudyData
from mtl_search.recipe import Component, Schedule
from mtl_search.training.stages import run_stage
from mtl_search.training.workspace import Workload, Workspace

ADAMW = Component("adamw", {"lr": 0.01})
DROPOUT = Component("mlp", {"width": 12, "depth": 2, "dropout": 0.2})


@pytest.mark.parametrize("backbone", [DROPOUT, BATCH_NORM], ids=["dropout", "batch norm"])
def test_a_stage_gives_the_same_bits_first_or_last_in_a_workspace_or_in_another(
    backbone: Component, every_kind: StudyData, tmp_path: Path
) -> None:
    warm = workspace_of(every_kind, backbone)
    recipe = recipe_of(Schedule(3, 32, ADAMW, unfreezing=Component("shared", {"epochs": 1}), clip_norm=1.0), depth=1)
    stage = joint_stage(warm, recipe, tmp_path)
    run_stage(stage, warm)
    other = replace(recipe, sharing=Component("hard", {"depth": 0}), joint=Schedule(2, 16, ADAMW, clip_norm=0.1))
    run_stage(joint_stage(warm, other, tmp_path, "other"), warm)
    torch.manual_seed(99)
    again = replace(stage, folder=str(tmp_path / "again"))
    run_stage(again, warm)
    fresh = replace(stage, folder=str(tmp_path / "fresh"))
    run_stage(fresh, workspace_of(every_kind, backbone))
    first, model = files_of(stage)
    for repeated in (again, fresh):
        result, state = files_of(repeated)
        assert result == first
        assert same(state, model)


def test_another_key_is_another_random_order(workspace: Workspace, tmp_path: Path) -> None:
    stage = joint_stage(workspace, recipe_of(Schedule(1, 32, ADAMW)), tmp_path)
    other = replace(stage, key="other", folder=str(tmp_path / "other"))
    run_stage(stage, workspace)
    run_stage(other, workspace)
    assert not same(files_of(stage)[1], files_of(other)[1])


def test_a_workloads_key_follows_everything_a_single_task_model_depends_on(every_kind: StudyData) -> None:
    workload = workload_of(every_kind)
    assert workload_of(every_kind).key == workload.key
    other_base = {name: value + 1e-7 for name, value in workload.base.items()}
    changed = [
        replace(workload, seed=4),
        replace(workload, base=other_base),
        replace(workload, precision="bf16"),
        replace(workload, data=data_of(EVERY_KIND, rows=261)),
        Workload.prepare(every_kind, DROPOUT, 3, "fp32"),
    ]
    assert len({workload.key, *(other.key for other in changed)}) == 6
