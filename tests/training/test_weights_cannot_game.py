"""The searched weights cannot reach the searched objective but through the model: same predictions, same score."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_workloads import joint_stage, recipe_of, workspace_of

from mtl_search.data.study_data import StudyData
from mtl_search.recipe import Component, Schedule
from mtl_search.training.stages import Stage, run_stage
from mtl_search.training.workspace import Workspace
from mtl_search.weighting import WEIGHTINGS

STANDS_STILL = Component("sgd", {"lr": 1e-30, "momentum": 0.0})
"""Steps that no float32 parameter notices, so that every weighting ends with the same predictions."""
TASKS = ("odd", "ink", "halves")
RATIOS = st.fixed_dictionaries({task: st.floats(-8, 8) for task in TASKS})


@pytest.fixture(scope="module")
def ground(every_kind: StudyData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Stage]:
    """A workspace, and a joint stage over finished single-task models."""
    workspace = workspace_of(every_kind)
    recipe = recipe_of(Schedule(1, 64, STANDS_STILL), Schedule(1, 64))
    return workspace, joint_stage(workspace, recipe, tmp_path_factory.mktemp("stages"))


@pytest.fixture(scope="module")
def equal(ground: tuple[Workspace, Stage]) -> dict[str, Any]:
    return trained(ground, Component("fixed"))


def trained(ground: tuple[Workspace, Stage], weighting: Component) -> dict[str, Any]:
    workspace, stage = ground
    return run_stage(replace(stage, recipe=replace(stage.recipe, weighting=weighting)), workspace)


@settings(max_examples=15, deadline=None)
@given(ratios=RATIOS)
def test_no_choice_of_loss_weights_alone_changes_the_objective(
    ratios: dict[str, float], ground: tuple[Workspace, Stage], equal: dict[str, Any]
) -> None:
    weighed = trained(ground, Component("fixed", {"log_ratio": ratios}))
    used = weighed.history[1].weights
    for task, ratio in ratios.items():
        assert used[task] == pytest.approx(used["digit"] * math.exp(ratio), rel=1e-4)
    for before, after in zip(equal.history, weighed.history, strict=True):
        assert after.score == before.score
        assert after.metrics == before.metrics
        # The losses that are shown are those of the tasks, not weighed ones.
        assert after.validation_loss == before.validation_loss
        assert after.training_loss == pytest.approx(before.training_loss, rel=1e-6)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_no_weighting_has_a_way_to_the_objective_but_through_the_model(
    weighting: str, ground: tuple[Workspace, Stage], equal: dict[str, Any]
) -> None:
    other = trained(ground, Component(weighting))
    assert [report.score for report in other.history] == [report.score for report in equal.history]
    assert (other.best_epoch, other.best_score) == (equal.best_epoch, equal.best_score)
