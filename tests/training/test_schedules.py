"""Schedules against plain PyTorch: layer-wise rates, L2-SP and averaging as mathematics, and when patience ends."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_workloads import (
    STEP_SEED,
    joint_stage,
    model_of,
    recipe_of,
    same,
    single_stages,
    snapshot,
    step_of,
    workspace_of,
)
from stage_outcomes import Script, files_of, judged
from torch import Tensor, nn

from mtl_search.balancing.batch_source import batch_sources
from mtl_search.data.study_data import StudyData
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Component, Schedule
from mtl_search.training.freezing import optimizer_of
from mtl_search.training.stages import is_finished, run_stage
from mtl_search.training.step import Step
from mtl_search.training.workspace import Workspace
from mtl_search.transfer.average import Average
from mtl_search.transfer.l2_sp import L2SP
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS

SGD = Component("sgd", {"lr": 0.05, "momentum": 0.9})
PLAIN = Component("sgd", {"lr": 0.05, "momentum": 0.0})


@pytest.fixture
def workspace(unequal: StudyData) -> Workspace:
    return workspace_of(unequal)


def trained(workspace: Workspace, schedule: Schedule, epochs: int = 1) -> tuple[MultiTaskModel, Step]:
    """A single-task model on the small data set, after some epochs."""
    model = model_of(workspace, ("odd",))
    optimizer, weighting = optimizer_of(model, schedule), build(WEIGHTINGS, Component("fixed"))
    split, world, base = workspace.splits["train"], workspace.world, workspace.base
    step = Step(model, split, schedule, weighting, optimizer, STEP_SEED, world, base)
    for epoch in range(1, epochs + 1):
        step.run_epoch(epoch, lambda _: 1.0)
    return model, step


def by_hand(
    workspace: Workspace, schedule: Schedule, rates: dict[str, float], pull: float
) -> tuple[nn.Module, list[dict[str, Tensor]]]:
    """The same epoch in plain PyTorch: a group per block, the penalty in the loss; the weights after each update."""
    model = model_of(workspace, ("odd",))
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    groups = [
        {"params": [value for name, value in model.named_parameters() if name.startswith(part)], "lr": rate}
        for part, rate in rates.items()
    ]
    optimizer = torch.optim.SGD(groups, momentum=schedule.optimizer.params["momentum"])
    split = workspace.splits["train"]
    x, y, mask = split.inputs["small"][:].single, split.targets["odd"], split.masks["odd"]
    train, _ = batch_sources(model, split, schedule, 0.0, STEP_SEED, workspace.world)
    after = []
    for batch in train.epoch(1):
        rows = batch.rows[0][mask[batch.rows[0]]]
        logits = model(x[rows])["odd"]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, y[rows].float())
        penalty = torch.stack(
            [(v - start[n]).square().sum() for n, v in model.blocks.named_parameters(prefix="blocks")]
        )
        optimizer.zero_grad()
        torch.autograd.backward(loss + pull / 2 * penalty.sum())
        optimizer.step()
        after.append({name: value.detach().clone() for name, value in model.named_parameters()})
    return model, after


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_layer_decay_gives_each_block_its_own_rate(workspace: Workspace) -> None:
    schedule = Schedule(1, 8, SGD, layer_decay=0.5)
    rates = {"blocks.0": 0.0125, "blocks.1": 0.025, "heads": 0.05}
    model, step = trained(workspace, schedule)
    assert_close(model.state_dict(), by_hand(workspace, schedule, rates, 0.0)[0].state_dict())
    assert step.learning_rate == 0.05


def test_l2_sp_is_half_the_squared_distance_to_the_base_in_the_loss(workspace: Workspace) -> None:
    schedule = Schedule(1, 8, SGD, l2_sp=0.7)
    rates = {"": 0.05}
    model, _ = trained(workspace, schedule)
    assert_close(model.state_dict(), by_hand(workspace, schedule, rates, 0.7)[0].state_dict())
    free, _ = trained(workspace, replace(schedule, l2_sp=0.0))
    assert not torch.allclose(
        model.state_dict()["blocks.0.0.linear.weight"], free.state_dict()["blocks.0.0.linear.weight"]
    )


def test_the_penalty_counts_once_whatever_the_tasks_weigh(workspace: Workspace) -> None:
    # Pulled from elsewhere without any gradient of the tasks: every copy moves by lr * strength * distance.
    model = model_of(workspace, depth=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    before = snapshot(model)
    L2SP(model, workspace.base, 0.5).add()
    for name, parameter in model.named_parameters():
        if name.startswith("blocks."):
            _, block, _, inner = name.split(".", 3)
            expected = 0.5 * (before[name] - workspace.base[f"{block}.{inner}"])
        else:
            expected = torch.zeros_like(parameter)
        torch.testing.assert_close(parameter.grad, expected)


def test_the_penalty_leaves_frozen_blocks_alone(workspace: Workspace) -> None:
    model = model_of(workspace, ("odd",))
    step_of(workspace, model, Schedule(1, 8, PLAIN, unfreezing=Component("never")))
    L2SP(model, workspace.base, 1.0).add()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_average_has_its_closed_form(workspace: Workspace) -> None:
    schedule = Schedule(1, 8, PLAIN, average=0.6)
    start = {name: value.detach().clone() for name, value in model_of(workspace, ("odd",)).named_parameters()}
    model, step = trained(workspace, schedule)
    own = snapshot(model)
    _, after = by_hand(workspace, schedule, {"": 0.05}, 0.0)
    times = len(after)
    wanted = {
        name: 0.6**times * value
        + sum(0.4 * 0.6 ** (times - 1 - turn) * weights[name] for turn, weights in enumerate(after))
        for name, value in start.items()
    }
    with step.judged():
        assert_close(dict(model.state_dict()), wanted)
    assert same(model.state_dict(), own)


def test_the_average_of_what_does_not_move_is_that_to_the_bit_and_whole_numbers_are_taken_over() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    start = copy.deepcopy(model.state_dict())
    average = Average(model, 0.9)
    for _ in range(5):
        average.update()
    assert same(average.state_dict(), start)
    model(torch.randn(4, 3))
    average.update()
    assert average.state_dict()["1.num_batches_tracked"] == 1
    torch.testing.assert_close(
        average.state_dict()["1.running_mean"], 0.1 * model.get_buffer("1.running_mean"), rtol=1e-5, atol=1e-7
    )


def test_what_is_validated_and_kept_is_the_average(workspace: Workspace, tmp_path: Path) -> None:
    schedule = Schedule(3, 32, Component("adamw", {"lr": 0.01}), average=0.8)
    stage = joint_stage(workspace, recipe_of(schedule), tmp_path)
    result = run_stage(stage, workspace)
    assert result.best_epoch > 0
    assert judged(stage, workspace) == result.metrics
    plain = replace(stage, recipe=recipe_of(replace(schedule, average=0.0)), folder=str(tmp_path / "plain"))
    other = run_stage(plain, workspace)
    assert result.history[1].training_loss == other.history[1].training_loss
    assert result.history[1].validation_loss != other.history[1].validation_loss


@pytest.mark.parametrize("patience", [1, 2])
def test_a_stage_ends_when_patience_does_and_is_finished(patience: int, workspace: Workspace, tmp_path: Path) -> None:
    hot = Schedule(12, 32, Component("adamw", {"lr": 0.3}), Component("constant"), patience=patience)
    stage = single_stages(workspace, recipe_of(Schedule(), hot), tmp_path)["digit"]
    control = Script()
    result = run_stage(stage, workspace, control)
    scores = [report.score for report in result.history]
    assert len(scores) - 1 == result.best_epoch + patience < 12
    assert result.best_epoch == scores.index(max(scores))
    assert not result.stopped
    assert is_finished(stage) == result
    assert judged(stage, workspace) == result.metrics
    assert control.asked == list(range(len(scores) - 1))
    whole = replace(stage, recipe=recipe_of(Schedule(), replace(hot, patience=None)), folder=str(tmp_path / "whole"))
    longer = run_stage(whole, workspace).history
    assert [report.score for report in longer[: len(scores)]] == scores
    assert files_of(stage)[0]["history"][-1]["epoch"] == len(scores) - 1
