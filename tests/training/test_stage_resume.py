"""A killed or stopped stage goes on from its checkpoint and ends with the bits of one that nobody killed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_workloads import BATCH_NORM, joint_stage, recipe_of, same, single_stages, workspace_of
from stage_outcomes import KilledError, Script, files_of, timeless

from mtl_search.data.study_data import StudyData
from mtl_search.recipe import Component, Schedule
from mtl_search.storage.checkpoint import load_checkpoint
from mtl_search.storage.files import STOPPED_FILE, STOPPED_MODEL_FILE
from mtl_search.storage.stage_results import read_result
from mtl_search.training.evaluation import evaluate
from mtl_search.training.stages import Stage, is_finished, run_stage
from mtl_search.training.step import Step
from mtl_search.training.workspace import Workspace

DROPOUT = Component("mlp", {"width": 12, "depth": 2, "dropout": 0.2})
ADAMW = Component("adamw", {"lr": 0.01})
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _checkpoint_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtl_search.training.loop.CHECKPOINT_SHARE", 1e9)


def kill(stage: Stage, workspace: Workspace, epoch: int) -> None:
    with pytest.raises(KilledError):
        run_stage(stage, workspace, Script(kill=epoch))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("backbone", [DROPOUT, BATCH_NORM], ids=["dropout", "batch norm"])
def test_a_resumed_stage_ends_with_the_same_bits(
    optimizer: str, backbone: Component, every_kind: StudyData, tmp_path: Path
) -> None:
    workspace = workspace_of(every_kind, backbone)
    shared = Component("shared", {"epochs": 2})
    schedule = Schedule(5, 32, Component(optimizer, {"lr": 0.01}), unfreezing=shared, clip_norm=1.0)
    whole = joint_stage(workspace, recipe_of(schedule, depth=1), tmp_path)
    expected = run_stage(whole, workspace)
    for number, kills in enumerate([(0,), (1,), (2,), (3, 4), (1, 2, 3)]):
        stage = replace(whole, folder=str(tmp_path / f"killed {number}"))
        for epoch in kills:
            kill(stage, workspace, epoch)
        result = run_stage(stage, workspace_of(every_kind, backbone))
        assert timeless(result) == timeless(expected)
        assert same(files_of(stage)[1], files_of(whole)[1])
        assert {path.name for path in Path(stage.folder).iterdir()} == {"model.safetensors", "result.json"}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_stage_resumed_between_two_unfreezings_ends_with_the_same_bits(
    optimizer: str, every_kind: StudyData, tmp_path: Path
) -> None:
    workspace = workspace_of(every_kind, BATCH_NORM)
    parts = {"unfreezing": Component("gradual"), "layer_decay": 0.8, "l2_sp": 0.1, "average": 0.9, "patience": 2}
    whole = joint_stage(workspace, recipe_of(Schedule(6, 32, Component(optimizer, {"lr": 0.03}), **parts)), tmp_path)
    expected = run_stage(whole, workspace)
    for number, kills in enumerate([(1,), (2,), (0, 1, 2, 3)]):
        stage = replace(whole, folder=str(tmp_path / f"killed {number}"))
        for epoch in kills:
            kill(stage, workspace, epoch)
        assert timeless(run_stage(stage, workspace_of(every_kind, BATCH_NORM))) == timeless(expected)
        assert same(files_of(stage)[1], files_of(whole)[1])


def test_patience_that_is_at_an_end_ends_a_resumed_stage_at_once(workspace: Workspace, tmp_path: Path) -> None:
    hot = Schedule(9, 32, Component("adamw", {"lr": 0.5}), Component("constant"), patience=1)
    whole = joint_stage(workspace, recipe_of(hot), tmp_path)
    expected = run_stage(whole, workspace)
    last = expected.history[-1].epoch
    assert last < 9
    stage = replace(whole, folder=str(tmp_path / "killed"))
    kill(stage, workspace, last)
    control = Script()
    assert timeless(run_stage(stage, workspace, control)) == timeless(expected)
    assert control.asked == []


@pytest.fixture
def stage(workspace: Workspace, tmp_path: Path) -> Stage:
    return joint_stage(workspace, recipe_of(Schedule(4, 32, ADAMW)), tmp_path)


def test_resuming_trains_no_finished_epoch_again(
    workspace: Workspace, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(stage, workspace, 2)
    trained: list[int] = []
    original = Step.run_epoch

    def counted(self: Step, epoch: int, factor: Any) -> torch.Tensor:
        trained.append(epoch)
        return original(self, epoch, factor)

    monkeypatch.setattr(Step, "run_epoch", counted)
    run_stage(stage, workspace)
    assert trained == [3, 4]


def test_whoever_listens_after_a_kill_hears_of_every_epoch(workspace: Workspace, stage: Stage) -> None:
    # The listener may be as new as the worker: after the driver's own death nobody else knows the first epochs.
    kill(stage, workspace, 2)
    control = Script()
    result = run_stage(stage, workspace, control)
    assert [report.epoch for report in control.heard] == [0, 1, 2, 3, 4]
    assert tuple(control.heard) == result.history
    assert control.asked == [2, 3]


def test_a_stop_that_came_while_the_stage_was_dead_is_heard(workspace: Workspace, stage: Stage) -> None:
    kill(stage, workspace, 2)
    result = run_stage(stage, workspace, Script(stop=2))
    assert result.stopped
    assert [report.epoch for report in result.history] == [0, 1, 2]


def test_a_damaged_checkpoint_makes_the_stage_start_anew(
    workspace: Workspace, stage: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = replace(stage, folder=str(tmp_path / "whole"))
    expected = run_stage(whole, workspace)
    kill(stage, workspace, 3)
    path = Path(stage.folder) / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:2000])
    result = run_stage(stage, workspace)
    assert "starts anew" in caplog.text
    assert timeless(result) == timeless(expected)
    assert same(files_of(stage)[1], files_of(whole)[1])


def test_checkpoints_take_a_small_part_of_the_time(
    workspace: Workspace, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtl_search.training.loop.CHECKPOINT_SHARE", 1e-9)
    kill(stage, workspace, 3)
    # The first trained epoch is always worth a checkpoint; the next is due once its cost has been earned.
    checkpoint = load_checkpoint(Path(stage.folder), CPU)
    assert checkpoint is not None
    assert checkpoint["epoch"] == 1


def test_a_stopped_stage_says_so_and_can_go_on(workspace: Workspace, tmp_path: Path) -> None:
    stage = joint_stage(workspace, recipe_of(Schedule(6, 32, ADAMW)), tmp_path)
    control = Script(stop=2)
    result = run_stage(stage, workspace, control)
    assert result.stopped
    assert [report.epoch for report in control.heard] == [0, 1, 2]
    assert result.history == tuple(control.heard)
    assert is_finished(stage) is None
    best = judged_file(stage, workspace)
    assert read_result(Path(stage.folder) / STOPPED_FILE) == result
    assert best == result.metrics
    whole = replace(stage, folder=str(tmp_path / "whole"))
    run_stage(whole, workspace)
    assert not run_stage(stage, workspace).stopped
    assert files_of(stage)[0] == files_of(whole)[0]
    assert same(files_of(stage)[1], files_of(whole)[1])


def judged_file(stage: Stage, workspace: Workspace) -> dict[str, float]:
    """Main validation metric by task of the model that a stopped stage left."""
    model = workspace.model(stage.tasks, stage.recipe.sharing)
    model.load_state_dict(load_file(Path(stage.folder) / STOPPED_MODEL_FILE))
    results = evaluate(model, workspace.splits["validation"], workspace.metrics, workspace.world)
    return {task: found["metric"] for task, found in results.items()}


def test_only_a_joint_stage_leaves_what_it_was_stopped_with(workspace: Workspace, tmp_path: Path) -> None:
    stage = single_stages(workspace, recipe_of(Schedule(3, 32, ADAMW)), tmp_path).popitem()[1]
    assert run_stage(replace(stage, folder=str(tmp_path / "stopped")), workspace, Script(stop=1)).stopped
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("last", [0, 1, 2])
def test_a_stopped_stage_goes_on_from_its_last_epoch(last: int, workspace: Workspace, tmp_path: Path) -> None:
    stage = joint_stage(workspace, recipe_of(Schedule(3, 32, ADAMW)), tmp_path)
    run_stage(stage, workspace, Script(stop=last))
    checkpoint = load_checkpoint(Path(stage.folder), CPU)
    assert checkpoint is not None
    assert checkpoint["epoch"] == last


def test_the_last_epoch_is_not_asked_about(workspace: Workspace, tmp_path: Path) -> None:
    stage = joint_stage(workspace, recipe_of(Schedule(2, 32, ADAMW)), tmp_path)
    assert not run_stage(stage, workspace, Script(stop=2)).stopped
