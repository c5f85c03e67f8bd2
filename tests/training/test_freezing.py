"""Freezing: blocks stay as they are for some epochs, to the bit, and then learn."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_workloads import BATCH_NORM, joint_stage, model_of, moved, recipe_of, same, snapshot, step_of, workspace_of

from mtl_search.data.study_data import StudyData
from mtl_search.recipe import Component, Schedule
from mtl_search.training.freezing import Freezing, optimizer_of
from mtl_search.training.stages import run_stage, trained_model
from mtl_search.training.workspace import Workspace

ADAMW = Component("adamw", {"lr": 0.01, "weight_decay": 0.5})
SGD = Component("sgd", {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1})
SHARED, GRADUAL = Component("shared"), Component("gradual")


def schedule_of(unfreezing: Component, optimizer: Component = ADAMW) -> Schedule:
    return Schedule(batch_size=32, optimizer=optimizer, unfreezing=unfreezing)


def test_frozen_shared_blocks_do_not_move_and_then_do(workspace: Workspace) -> None:
    model = model_of(workspace, depth=1)
    step = step_of(workspace, model, schedule_of(SHARED))
    before = snapshot(model)
    step.run_epoch(1, lambda _: 1.0)
    shared = {name for name in before if name.startswith("blocks.0.")}
    assert moved(model, before) == before.keys() - shared
    middle = snapshot(model)
    step.run_epoch(2, lambda _: 1.0)
    assert moved(model, middle) == before.keys()


@pytest.mark.parametrize("unfreezing", ["shared", "heads_first", "gradual", "never"])
def test_a_frozen_single_task_model_trains_its_head_alone(unfreezing: str, workspace: Workspace) -> None:
    model = model_of(workspace, ("digit",))
    before = snapshot(model)
    step_of(workspace, model, schedule_of(Component(unfreezing))).run_epoch(1, lambda _: 1.0)
    assert moved(model, before) == {name for name in before if name.startswith("heads.")}


def test_gradual_unfreezing_goes_down_block_by_block(workspace: Workspace) -> None:
    model = model_of(workspace, depth=1)
    step = step_of(workspace, model, schedule_of(GRADUAL))
    for epoch, parts in enumerate([("heads",), ("heads", "blocks.1"), ("heads", "blocks.1", "blocks.0")], 1):
        before = snapshot(model)
        step.run_epoch(epoch, lambda _: 1.0)
        assert moved(model, before) == {name for name in before if name.startswith(parts)}


def test_what_a_sharing_learns_beside_its_blocks_learns_with_the_heads(workspace: Workspace) -> None:
    names = [task.name for task in workspace.workload.data.tasks]
    model = workspace.model(names, Component("adapters", {"rank": 2}))
    before = snapshot(model)
    step_of(workspace, model, schedule_of(Component("never"))).run_epoch(1, lambda _: 1.0)
    assert {name.split(".")[0] for name in moved(model, before)} == {"heads", "coupling"}


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_in_frozen_blocks_keeps_its_statistics(affine: bool, every_kind: StudyData) -> None:
    workspace = workspace_of(every_kind, BATCH_NORM)
    model = model_of(workspace, depth=1)
    if not affine:
        norm = model.get_submodule("blocks.0.0.1")
        norm.weight, norm.bias = None, None
    before = snapshot(model)
    step = step_of(workspace, model, schedule_of(SHARED))
    step.run_epoch(1, lambda _: 1.0)
    assert not {name for name in moved(model, before) if name.startswith("blocks.0.")}
    step.run_epoch(2, lambda _: 1.0)
    assert {"blocks.0.0.1.running_mean", "blocks.0.0.1.running_var"} <= moved(model, before)


@pytest.mark.parametrize("optimizer", [ADAMW, SGD], ids=["adamw", "sgd"])
def test_a_stage_thaws_its_shared_blocks_after_the_frozen_epochs(
    optimizer: Component, workspace: Workspace, tmp_path: Path
) -> None:
    shared = Component("shared", {"epochs": 2})
    thawing = joint_stage(workspace, recipe_of(Schedule(3, 32, optimizer, unfreezing=shared)), tmp_path)
    recipe = recipe_of(Schedule(3, 32, optimizer, unfreezing=Component("shared", {"epochs": 3})))
    frozen = replace(thawing, recipe=recipe, folder=str(tmp_path / "frozen"))
    merged = replace(thawing, recipe=recipe_of(Schedule(0)), folder=str(tmp_path / "merged"))
    first, second, _ = (run_stage(stage, workspace).history for stage in (thawing, frozen, merged))
    for epoch in (1, 2):
        assert first[epoch].training_loss == second[epoch].training_loss
        assert first[epoch].validation_loss == second[epoch].validation_loss
    assert first[3].validation_loss != second[3].validation_loss
    held, start = (trained_model(stage, workspace).state_dict() for stage in (frozen, merged))
    assert same(*({name: v for name, v in state.items() if name.startswith("blocks.")} for state in (held, start)))


@pytest.mark.parametrize("optimizer", [ADAMW, SGD], ids=["adamw", "sgd"])
def test_a_block_that_begins_late_begins_as_with_a_fresh_optimiser(optimizer: Component, workspace: Workspace) -> None:
    # Neither momentum nor weight decay has reached it before.
    model = model_of(workspace, ("digit",))
    schedule = schedule_of(SHARED, optimizer)
    built, freezing = optimizer_of(model, schedule), Freezing(model, schedule)
    blocks = list(model.blocks.parameters())
    start = [parameter.detach().clone() for parameter in blocks]
    for epoch in (1, 1, 2):
        if epoch == 2:
            assert all(torch.equal(parameter, before) for parameter, before in zip(blocks, start, strict=True))
            assert not any(parameter in built.state for parameter in blocks)
        freezing.enter(epoch)
        for parameter in freezing.learning:
            parameter.grad = torch.ones_like(parameter)
        built.step()
    alone = [torch.nn.Parameter(before.clone()) for before in start]
    other = type(built)(alone, **{name: built.defaults[name] for name in ("lr", "weight_decay")})
    for group in other.param_groups:
        group.update({name: value for name, value in built.param_groups[0].items() if name != "params"})
    for parameter in alone:
        parameter.grad = torch.ones_like(parameter)
    other.step()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(blocks, alone, strict=True))
