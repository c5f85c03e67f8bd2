"""Stages end to end without Ray: what lands on disk, and that nothing of one stage shows in another."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_workloads import (
    BATCH_NORM,
    EVERY_KIND,
    data_of,
    joint_stage,
    recipe_of,
    same,
    single_stages,
    two_data_sets,
    workspace_of,
)
from stage_outcomes import Script, files_of, judged

from mtl_search.data.study_data import StudyData
from mtl_search.errors import TrialError
from mtl_search.models.distributed import DistributedContext
from mtl_search.recipe import Component, Schedule
from mtl_search.training.evaluation import evaluate
from mtl_search.training.stages import evaluation_of, is_finished, run_stage, trained_model
from mtl_search.training.workspace import Workspace

ADAMW = Component("adamw", {"lr": 0.01})
DROPOUT = Component("mlp", {"width": 12, "depth": 2, "dropout": 0.2})


def test_single_task_stages_then_a_joint_one_leave_results_and_models(workspace: Workspace, tmp_path: Path) -> None:
    recipe = recipe_of(Schedule(3, 32, ADAMW, unfreezing=Component("shared", {"epochs": 1})), depth=1)
    stage = joint_stage(workspace, recipe, tmp_path)
    assert is_finished(stage) is None
    control = Script()
    result = run_stage(stage, workspace, control)
    assert is_finished(stage) == result
    assert {path.name for path in Path(stage.folder).iterdir()} == {"model.safetensors", "result.json"}
    assert tuple(control.heard) == result.history
    assert [report.epoch for report in result.history] == [0, 1, 2, 3]
    for task, single in single_stages(workspace, recipe, tmp_path).items():
        alone = is_finished(single)
        assert alone is not None
        assert alone.metrics == judged(single, workspace)
        assert stage.objective.goals[task].baseline == alone.metrics[task]
    state = load_file(Path(stage.folder) / "model.safetensors")
    model = trained_model(stage, workspace)
    assert same(model.state_dict(), state)
    assert result.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert not result.stopped


def test_the_best_epoch_on_validation_is_kept(workspace: Workspace, tmp_path: Path) -> None:
    # A learning rate this high makes some epochs worse than the ones before.
    hot = Schedule(6, 32, Component("adamw", {"lr": 0.3}), Component("constant"))
    stage = joint_stage(workspace, recipe_of(hot), tmp_path)
    result = run_stage(stage, workspace)
    scores = [report.score for report in result.history]
    assert result.best_score == max(scores)
    assert result.best_epoch == scores.index(max(scores)) < 6
    assert result.metrics == result.history[result.best_epoch].metrics
    assert result.best_score == stage.objective.score(result.metrics)
    assert judged(stage, workspace) == result.metrics
    assert [report.best_score for report in result.history] == [max(scores[: i + 1]) for i in range(7)]


def test_a_report_says_what_the_epoch_did(workspace: Workspace, tmp_path: Path) -> None:
    schedule = Schedule(2, 32, ADAMW, Component("cosine"))
    weighting = Component("fixed", {"log_ratio": {"ink": 1.0}})
    result = run_stage(joint_stage(workspace, recipe_of(schedule, weighting=weighting), tmp_path), workspace)
    start, first, last = result.history
    assert start.training_loss == start.weights == {}
    assert set(first.training_loss) == set(first.validation_loss) == set(first.weights) == set(EVERY_KIND)
    assert sum(first.weights.values()) == pytest.approx(4)
    assert first.weights["ink"] == pytest.approx(first.weights["digit"] * 2.718281828, rel=1e-5)
    assert 0.004 < first.lr < 0.01
    assert 0 < last.lr < 0.002


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_divergence_names_task_and_epoch(workspace: Workspace, tmp_path: Path, optimizer: str) -> None:
    calm = recipe_of(Schedule(3, 32, Component(optimizer, {"lr": 1e6})))
    stage = joint_stage(workspace, calm, tmp_path)
    if optimizer == "adamw":  # its steps are bounded by the learning rate: squares overflow after some of them only
        stage = replace(stage, recipe=replace(calm, joint=Schedule(3, 8, Component("adamw", {"lr": 1e36}))))
    with pytest.raises(TrialError, match=r"diverged: (training|validation) loss of task \w+ is (nan|inf) in epoch \d"):
        run_stage(stage, workspace)
    assert is_finished(stage) is None


def test_a_metric_that_is_undefined_is_told_from_divergence(tmp_path: Path) -> None:
    task = {**EVERY_KIND["ink"], "metric": "MeanSquaredLogError"}
    workspace = workspace_of(data_of({"ink": task}))
    workspace.base["1.norm.weight"] *= 1000  # predictions far below zero, of which there is no logarithm
    stage = single_stages(workspace, recipe_of(Schedule()), tmp_path)["ink"]
    with pytest.raises(TrialError, match=r"metric of task ink is nan in epoch 0, though its loss is .* not defined"):
        run_stage(stage, workspace)


@pytest.mark.parametrize("data", ["every_kind", "unequal"])
def test_nothing_shared_and_nothing_trained_is_the_single_task_models_exactly(
    data: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    workspace = workspace_of(request.getfixturevalue(data))
    stage = joint_stage(workspace, recipe_of(Schedule(0), depth=0), tmp_path)
    result = run_stage(stage, workspace)
    assert result.metrics == {task: goal.baseline for task, goal in stage.objective.goals.items()}
    assert result.best_score == stage.objective.improvement(result.metrics) == 0


def test_no_epochs_are_a_pure_merge(workspace: Workspace, tmp_path: Path) -> None:
    fusion = Component("weighted", {"coefficients": {"digit": 1.0, "odd": 1.0, "ink": 0.0, "halves": 2.0}})
    stage = joint_stage(workspace, recipe_of(Schedule(0), depth=1, fusion=fusion), tmp_path)
    result = run_stage(stage, workspace)
    assert [report.epoch for report in result.history] == [0]
    merged = files_of(stage)[1]
    singles = {task: load_file(Path(folder) / "model.safetensors") for task, folder in stage.singles.items()}
    name = "blocks.0.0.linear.weight"
    expected = (singles["digit"][name] + singles["odd"][name] + 2 * singles["halves"][name]) / 4
    torch.testing.assert_close(merged[name], expected)
    for index, task in enumerate(EVERY_KIND):
        own = singles[task]
        assert torch.equal(merged[f"blocks.1.{index}.linear.weight"], own["blocks.1.0.linear.weight"])
        assert torch.equal(merged[f"heads.{task}.linear.weight"], own[f"heads.{task}.linear.weight"])


def test_batch_norm_is_calibrated_on_training_data_after_fusing(every_kind: StudyData, tmp_path: Path) -> None:
    workspace = workspace_of(every_kind, BATCH_NORM)
    stage = joint_stage(workspace, recipe_of(Schedule(0)), tmp_path)
    run_stage(stage, workspace)
    merged = files_of(stage)[1]
    x = workspace.splits["train"].inputs["main"][:].single
    hidden = x @ merged["blocks.0.0.0.weight"].T + merged["blocks.0.0.0.bias"]
    torch.testing.assert_close(merged["blocks.0.0.1.running_mean"], hidden.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(merged["blocks.0.0.1.running_var"], hidden.var(0), rtol=1e-4, atol=1e-5)


def test_a_test_stage_judges_the_finished_model_on_the_test_split(workspace: Workspace, tmp_path: Path) -> None:
    stage = joint_stage(workspace, recipe_of(Schedule(1, 32, ADAMW)), tmp_path)
    run_stage(stage, workspace)
    before = files_of(stage)
    for trained in (stage, *single_stages(workspace, stage.recipe, tmp_path).values()):
        test = evaluation_of(trained, "test", 0)
        assert is_finished(test) is None
        model = trained_model(trained, workspace)
        expected = evaluate(model, workspace.split("test"), workspace.metrics, DistributedContext())
        assert run_stage(test, workspace).metrics == {task: found["metric"] for task, found in expected.items()}
        assert run_stage(test, workspace).metrics != judged(trained, workspace)
    assert files_of(stage)[0] == before[0]


def test_models_are_judged_on_the_same_draws_of_rows(workspace: Workspace, tmp_path: Path) -> None:
    stage = joint_stage(workspace, recipe_of(Schedule(1, 32, ADAMW)), tmp_path)
    run_stage(stage, workspace)
    singles = single_stages(workspace, stage.recipe, tmp_path)
    joint = run_stage(evaluation_of(stage, "validation", 30), workspace)
    assert joint.metrics == pytest.approx(judged(stage, workspace))
    for task, single in singles.items():
        alone = run_stage(evaluation_of(single, "validation", 30), workspace)
        apart = np.array(joint.resampled[task]) - np.array(alone.resampled[task])
        whole = joint.metrics[task] - alone.metrics[task]
        # What both models find hard drops out of their difference.
        assert apart.std() < np.hypot(np.std(joint.resampled[task]), np.std(alone.resampled[task]))
        assert apart.mean() == pytest.approx(whole, abs=3 * apart.std() / np.sqrt(30) + 1e-6)


def test_an_unfinished_stage_has_no_trained_model(workspace: Workspace, tmp_path: Path) -> None:
    stage = next(iter(single_stages(workspace, recipe_of(Schedule()), tmp_path).values()))
    with pytest.raises(TrialError, match="no finished model in"):
        trained_model(stage, workspace)


def test_single_task_models_are_judged_whatever_the_recipe_shares(tmp_path: Path) -> None:
    workspace = workspace_of(two_data_sets())
    tree = Component("tree", {"groups": [["digit", "ink"], ["odd"]], "depth": 1})
    recipe = recipe_of(Schedule(1, 32), Schedule(1, 32), sharing=tree)
    for task, stage in single_stages(workspace, recipe, tmp_path).items():
        run_stage(stage, workspace)
        found = run_stage(evaluation_of(stage, "test", 0), workspace)
        assert found.metrics.keys() == {task}
