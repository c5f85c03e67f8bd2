"""Task affinity against hand-made gradients and steps, and that measuring it changes nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_workloads import (
    EVERY_KIND,
    data_of,
    joint_stage,
    model_of,
    recipe_of,
    same,
    snapshot,
    step_of,
    two_data_sets,
    workspace_of,
)

from mtl_search.balancing.affinity import Affinity
from mtl_search.recipe import Component, Schedule
from mtl_search.storage.checkpoint import load_model
from mtl_search.training.stages import run_stage
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS

TASKS = ("digit", "odd", "ink")


@pytest.mark.parametrize("kind", ["cosine", "look_ahead"])
@pytest.mark.parametrize("own_data", [False, True])
def test_affinity_is_what_single_gradients_and_steps_give(kind: str, own_data: bool) -> None:
    workspace = workspace_of(two_data_sets() if own_data else data_of({task: EVERY_KIND[task] for task in TASKS}))
    model = model_of(workspace)
    step = step_of(workspace, model, Schedule(batch_size=64))
    batch, facts = next(iter(step._batches(1)))
    before = snapshot(model)
    measured = Affinity(kind, model, step._losses, workspace.world)
    measured.measure(batch, facts.shares, facts.present, 0.1)
    assert same(before, snapshot(model))
    assert model.training
    found = measured.means()

    model.eval()

    def losses() -> torch.Tensor:
        return step._losses(model, batch) * facts.shares

    shared = model.shared_parameters()
    gradients = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses()]
    flat = [torch.cat([part.reshape(-1) for part in gradient]) for gradient in gradients]
    start = losses().detach()
    for i, a in enumerate(TASKS):
        with torch.no_grad():
            for parameter, part in zip(shared, gradients[i], strict=True):
                parameter.sub_(part, alpha=0.1)
            after = losses()
            model.load_state_dict(before)
        for j, b in enumerate(TASKS):
            if i != j:
                cosine = torch.cosine_similarity(flat[i], flat[j], dim=0)
                expected = cosine if kind == "cosine" else 1 - after[j] / start[j]
                assert found[a][b] == pytest.approx(float(expected), abs=1e-5)


def test_a_stage_that_measures_trains_as_one_that_does_not(tmp_path: Path) -> None:
    workspace = workspace_of(data_of({task: EVERY_KIND[task] for task in TASKS}))
    stage = joint_stage(workspace, recipe_of(Schedule(2, 32)), tmp_path)
    plain = run_stage(stage, workspace)
    measured = run_stage(replace(stage, folder=str(tmp_path / "measured"), affinity="look_ahead"), workspace)
    assert plain.metrics == measured.metrics
    assert plain.affinity == {}
    assert {(a, b) for a, others in measured.affinity.items() for b in others} == {
        (a, b) for a in TASKS for b in TASKS if a != b
    }
    assert same(load_model(tmp_path / "joint"), load_model(tmp_path / "measured"))


def test_cosines_of_a_stage_are_those_at_the_representation() -> None:
    workspace = workspace_of(data_of({task: EVERY_KIND[task] for task in TASKS}, holes=False))
    found = {}
    for weighting in ("fixed", "mgda"):  # measured on the side, and read by the weighting itself
        step = step_of(
            workspace, model_of(workspace), Schedule(batch_size=182), build(WEIGHTINGS, Component(weighting))
        )
        step.run_epoch(1, lambda _: 1.0)
        found[weighting] = step.mean_cosines()
    assert set(found["fixed"]) == {"digit", "odd"}
    for a, others in found["fixed"].items():
        for b, value in others.items():
            assert -1 <= value <= 1
            assert value == pytest.approx(found["mgda"][a][b], abs=1e-5)
