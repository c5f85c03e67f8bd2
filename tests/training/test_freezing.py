"""Freezing: blocks that tasks share stay as they are for some epochs, and then learn."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_workloads import BATCH_NORM, joint_stage, model_of, moved, recipe_of, same, snapshot, step_of, workspace_of

from mtl_search.data import StudyData
from mtl_search.recipe import Component, Schedule
from mtl_search.training.stages import run_stage, trained_model
from mtl_search.training.workspace import Workspace

ADAMW = Component("adamw", {"lr": 0.01})


def test_frozen_shared_blocks_do_not_move_and_then_do(workspace: Workspace) -> None:
    model = model_of(workspace, depth=1)
    step = step_of(workspace, model, Schedule(batch_size=32, optimizer=ADAMW))
    before = snapshot(model)
    step.freeze(True)
    step.run_epoch(1, lambda _: 1.0)
    shared = {name for name in before if name.startswith("blocks.0.")}
    assert moved(model, before) == before.keys() - shared
    middle = snapshot(model)
    step.freeze(False)
    step.run_epoch(2, lambda _: 1.0)
    assert moved(model, middle) == before.keys()


def test_a_frozen_single_task_model_trains_its_head_alone(workspace: Workspace) -> None:
    model = model_of(workspace, ("digit",))
    before = snapshot(model)
    step = step_of(workspace, model, Schedule(batch_size=32, optimizer=ADAMW))
    step.freeze(True)
    step.run_epoch(1, lambda _: 1.0)
    assert moved(model, before) == {name for name in before if name.startswith("heads.")}


def test_batch_norm_in_frozen_blocks_keeps_its_statistics(every_kind: StudyData) -> None:
    workspace = workspace_of(every_kind, BATCH_NORM)
    model = model_of(workspace, depth=1)
    before = snapshot(model)
    step = step_of(workspace, model, Schedule(batch_size=32, optimizer=ADAMW))
    step.freeze(True)
    step.run_epoch(1, lambda _: 1.0)
    assert not {name for name in moved(model, before) if name.startswith("blocks.0.")}
    step.freeze(False)
    step.run_epoch(2, lambda _: 1.0)
    assert {"blocks.0.0.1.running_mean", "blocks.0.0.1.running_var"} <= moved(model, before)


@pytest.mark.parametrize("optimizer", [ADAMW, Component("sgd", {"lr": 0.01, "momentum": 0.9})], ids=["adamw", "sgd"])
def test_a_stage_thaws_its_shared_blocks_after_the_frozen_epochs(
    optimizer: Component, workspace: Workspace, tmp_path: Path
) -> None:
    thawing = joint_stage(workspace, recipe_of(Schedule(3, 32, optimizer, frozen_epochs=2)), tmp_path)
    recipe = recipe_of(Schedule(3, 32, optimizer, frozen_epochs=3))
    frozen = replace(thawing, recipe=recipe, folder=str(tmp_path / "frozen"))
    merged = replace(thawing, recipe=recipe_of(Schedule(0)), folder=str(tmp_path / "merged"))
    first, second, _ = (run_stage(stage, workspace)["history"] for stage in (thawing, frozen, merged))
    for epoch in (1, 2):
        assert first[epoch]["training_loss"] == second[epoch]["training_loss"]
        assert first[epoch]["validation_loss"] == second[epoch]["validation_loss"]
    assert first[3]["validation_loss"] != second[3]["validation_loss"]
    held, start = (trained_model(stage, workspace).state_dict() for stage in (frozen, merged))
    assert same(*({name: v for name, v in state.items() if name.startswith("blocks.")} for state in (held, start)))
