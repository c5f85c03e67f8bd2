"""Models with batch norm are judged and kept with the statistics of their own weights, alone and joint."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from groups_of_two import in_a_group_of_two
from sklearn.datasets import load_digits
from small_workloads import MLP, joint_stage, recipe_of, same, single_stages, two_data_sets, workload_of
from stage_outcomes import KilledError, Script, files_of, judged
from torch import nn

from mtl_search.config.study_config import ActivationsConfig, DataConfig, TaskConfig
from mtl_search.data.study_data import StudyData, load_data
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Component, Schedule, content_key
from mtl_search.results.objective import Objective
from mtl_search.storage.checkpoint import load_model, state_key
from mtl_search.training.calibration import Calibration
from mtl_search.training.evaluation import evaluate
from mtl_search.training.metrics import task_goals
from mtl_search.training.stages import Stage, run_stage, trained_model
from mtl_search.training.workspace import Workspace

ADAMW = Component("adamw", {"lr": 0.02})
NINE_STEPS = Schedule(1, 32, ADAMW, Component("constant"))
STATISTICS = ("running_mean", "running_var")


def digits() -> dict[str, dict[str, np.ndarray]]:
    """Handwritten digits: 288 to train on, which are nine batches of 32."""
    bunch = load_digits()
    ink = bunch.images.sum((1, 2))
    slant = (bunch.images * np.arange(8)).sum((1, 2)) / ink
    parts = {"train": slice(0, 288), "validation": slice(1000, 1300), "test": slice(1300, 1600)}
    return {
        name: {"x": bunch.images[rows].astype(np.float32), "ink": ink[rows], "slant": slant[rows]}
        for name, rows in parts.items()
    }


def lagging_blocks(input_shape: tuple[int, ...]) -> list[nn.Module]:
    """Two convolutions whose batch norms have the momentum that pretrained networks come with."""
    return [
        nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, momentum=0.01), nn.ReLU()),
        nn.Sequential(
            nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16, momentum=0.01),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        ),
    ]


class Still(nn.BatchNorm2d):
    """A batch norm that a user holds still."""

    def train(self, mode: bool = True) -> "Still":
        super().train(False)
        return self


def blocks_with_a_still_norm(input_shape: tuple[int, ...]) -> list[nn.Module]:
    first, second = lagging_blocks(input_shape)
    assert isinstance(first, nn.Sequential)
    first[1] = Still(8)
    return [first, second]


def images(**tasks: Any) -> StudyData:
    source = {"python": {"function": "test_calibration:digits", "inputs": ["x"]}}
    known = {name: {"kind": "regression", "target": name} for name in ("ink", "slant")}
    checked = {name: TaskConfig.model_validate(task) for name, task in known.items()}
    return load_data(DataConfig.model_validate({"source": source}), checked, 1)


def workspace_of(
    function: str = "lagging_blocks", world: DistributedContext | None = None, **options: Any
) -> Workspace:
    backbone = Component("python", {"function": f"test_calibration:{function}"})
    return Workspace(workload_of(images(), backbone), world or DistributedContext(), **options)


@pytest.fixture(scope="module")
def workspace() -> Workspace:
    return workspace_of()


def run(workspace: Workspace, folder: Path, joint: Schedule, single: Schedule = NINE_STEPS) -> Iterator[Any]:
    """Stages of both tasks alone and of the joint model, each with its result."""
    recipe = recipe_of(joint, single)
    stage = joint_stage(workspace, recipe, folder)
    for alone in single_stages(workspace, recipe, folder).values():
        yield alone, run_stage(alone, workspace)
    yield stage, run_stage(stage, workspace)


def statistics_of(model: MultiTaskModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items() if name.endswith(STATISTICS)}


def anew(model: MultiTaskModel, workspace: Workspace, schedule: Schedule) -> dict[str, torch.Tensor]:
    """The statistics that a model's weights come to."""
    model.load_state_dict({name: torch.ones_like(v) for name, v in statistics_of(model).items()}, strict=False)
    Calibration(model, workspace.splits["train"], schedule, workspace.world).calibrate_all()
    return statistics_of(model)


def test_a_model_alone_beats_a_constant_after_few_steps(workspace: Workspace, tmp_path: Path) -> None:
    goals = task_goals(workspace.workload.data)
    recipe = recipe_of(NINE_STEPS, NINE_STEPS)
    for task, stage in single_stages(workspace, recipe, tmp_path).items():
        result = run_stage(stage, workspace)
        assert result.best_epoch == 1
        assert result.metrics[task] < 0.9 * goals[task].scale


@pytest.mark.parametrize("schedule", [NINE_STEPS, replace(NINE_STEPS, epochs=2, average=0.8)])
def test_the_statistics_that_were_judged_are_kept_and_are_those_of_the_weights(
    schedule: Schedule, workspace: Workspace, tmp_path: Path
) -> None:
    for stage, result in run(workspace, tmp_path, schedule, schedule):
        assert judged(stage, workspace) == result.metrics
        model = trained_model(stage, workspace)
        assert result.best_epoch > 0
        assert same(statistics_of(model), anew(trained_model(stage, workspace), workspace, schedule))


def test_frozen_blocks_keep_their_statistics_until_they_learn(workspace: Workspace, tmp_path: Path) -> None:
    start = workspace.base
    for name, unfreezing, still in (("none", "never", ("0", "1")), ("upper", "gradual", ("0",)), ("all", "all", ())):
        schedule = replace(NINE_STEPS, epochs=2, unfreezing=Component(unfreezing))
        stage = single_stages(workspace, recipe_of(schedule, schedule), tmp_path / name)["ink"]
        run_stage(stage, workspace)
        state = load_model(stage.location)
        for block in ("0", "1"):
            kept = all(torch.equal(state[f"blocks.{block}.0.1.{s}"], start[f"{block}.1.{s}"]) for s in STATISTICS)
            assert kept == (block in still), (unfreezing, block)


def test_norms_that_a_user_holds_still_keep_their_statistics(tmp_path: Path) -> None:
    workspace = workspace_of("blocks_with_a_still_norm")
    stage = single_stages(workspace, recipe_of(NINE_STEPS, NINE_STEPS), tmp_path)["ink"]
    assert run_stage(stage, workspace).best_epoch == 1
    state = load_model(stage.location)
    assert state["blocks.0.0.1.running_mean"].abs().max() == 0
    assert state["blocks.1.0.1.running_mean"].abs().min() > 0


def test_a_stage_goes_on_after_a_kill_to_the_same_statistics(workspace: Workspace, tmp_path: Path) -> None:
    schedule = replace(NINE_STEPS, epochs=3, average=0.8)
    whole = single_stages(workspace, recipe_of(schedule, schedule), tmp_path / "whole")["ink"]
    run_stage(whole, workspace)
    killed = replace(whole, folder=str(tmp_path / "killed"))
    with pytest.raises(KilledError):
        run_stage(killed, workspace, Script(kill=2))
    assert (killed.location / "checkpoint.pt").exists()
    run_stage(killed, workspace)
    (result, state), (wanted, other) = files_of(killed), files_of(whole)
    assert result == wanted
    assert same(state, other)


def carry_out(world: DistributedContext, folder: Path) -> list[dict[str, torch.Tensor]]:
    """States of the calibrated random model, and of the kept models."""
    workspace = workspace_of(world=world)
    torch.manual_seed(0)
    model = workspace.model(("ink", "slant"), recipe_of(NINE_STEPS).sharing)
    Calibration(model, workspace.splits["train"], NINE_STEPS, world).calibrate_learning()
    kept = [load_model(stage.location) for stage, _ in run(workspace, folder, NINE_STEPS)]
    return [statistics_of(model), *kept]


def test_two_workers_come_to_the_statistics_of_one(workspace: Workspace, tmp_path: Path) -> None:
    ranks = in_a_group_of_two(carry_out, tmp_path, tmp_path / "two")
    alone = carry_out(DistributedContext(), tmp_path / "one")
    for first, second in zip(*ranks, strict=True):
        assert same(first, second)
    assert same(ranks[0][0], alone[0])
    recipe = recipe_of(NINE_STEPS, NINE_STEPS)
    stages = [*single_stages(workspace, recipe, tmp_path / "two").values()]
    stages.append(Stage("joint", "joint", ("ink", "slant"), recipe, str(tmp_path / "two" / "joint")))
    for stage in stages:
        assert same(
            statistics_of(trained_model(stage, workspace)), anew(trained_model(stage, workspace), workspace, NINE_STEPS)
        )


def test_what_frozen_blocks_gave_leads_to_the_same_statistics(tmp_path: Path) -> None:
    schedule = replace(NINE_STEPS, epochs=3, unfreezing=Component("gradual"))
    found = []
    for name, budget in (("kept", ActivationsConfig()), ("plain", ActivationsConfig(host_mib=0, disk_mib=0))):
        workspace = workspace_of(budget=budget)
        *_, (stage, _) = run(workspace, tmp_path / name, schedule, schedule)
        found.append((load_model(stage.location), workspace.activations.made))
    (kept, made), (plain, none) = found
    assert same(kept, plain)
    assert made > none == 0


def blocks_of_rows(input_shape: tuple[int, ...]) -> list[nn.Module]:
    return [
        nn.Sequential(nn.Linear(input_shape[0], 6), nn.BatchNorm1d(6, momentum=0.01), nn.ReLU()),
        nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, momentum=0.01), nn.ReLU()),
    ]


def test_rows_of_several_data_sets_pass_in_the_shares_of_a_batch(tmp_path: Path) -> None:
    backbone = Component("python", {"function": "test_calibration:blocks_of_rows"})
    workspace = Workspace(
        workload_of(two_data_sets((230, 23), metric="accuracy", holes=False), backbone), DistributedContext()
    )
    model = workspace.model(("digit", "odd", "ink"), Component("hard", {"depth": 1}))
    schedule = Schedule(batch_size=16, temperature=3.0)
    Calibration(model, workspace.splits["train"], schedule, DistributedContext()).calibrate_all()
    inputs = workspace.splits["train"].inputs
    means = {name: inputs[name][:].single.mean(0) for name in model.datasets}
    weights = {name: len(inputs[name]) for name in model.datasets}  # fewer than 1,024 rows: all of them pass
    mean = sum(means[name] * count for name, count in weights.items()) / sum(weights.values())
    linear, norm = model.blocks[0][0][:2]
    torch.testing.assert_close(norm.running_mean, linear(mean).detach())
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_learned_bases_are_kept_with_their_own_statistics(tmp_path: Path) -> None:
    data = images()
    source = replace(data, tasks=data.tasks[:1], source_tasks=data.tasks[1:])
    backbone = Component("python", {"function": "test_calibration:lagging_blocks"})
    workspace = Workspace(workload_of(source, backbone), DistributedContext())
    goals = task_goals(source, source.source_tasks)
    meta = {"epochs": 1, "batch_size": 32, "inner_steps": 2, "inner_lr": 0.05, "outer_lr": 1.0}
    for base in (Component("pretrain", {"epochs": 1, "batch_size": 32}), Component("reptile", meta)):
        recipe = recipe_of(NINE_STEPS, base=base)
        stage = Stage(base.name, "pretrain", ("slant",), recipe, str(tmp_path / base.name), Objective(goals))
        result = run_stage(stage, workspace)
        assert result.history[0].improvement == 0.0
        model = workspace.model(("slant",), None)
        model.load_state_dict(load_model(stage.location))
        kept = statistics_of(model)
        assert result.best_epoch == 1
        assert (
            evaluate(model, workspace.splits["validation"], workspace.metrics, DistributedContext())["slant"]["metric"]
            == (result.metrics["slant"])
        )
        assert same(kept, anew(model, workspace, NINE_STEPS))


def test_the_key_of_a_network_changes_with_batch_norm_alone(workspace: Workspace) -> None:
    for workload, changed in ((workspace.workload, True), (workload_of(images(), MLP), False)):
        base = state_key({name: torch.from_numpy(np.array(value)) for name, value in workload.base.items()})
        before = (workload.data.key, workload.backbone.to_dict(), base, workload.seed, workload.precision, False)
        assert (workload.key != content_key(*before)) == changed
