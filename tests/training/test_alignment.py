"""Alignment in joint training: what it does to features, its checkpoints, what it leaves behind, unlabelled rows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_workloads import EVERY_KIND, data_of, joint_stage, recipe_of, same, step_of, two_data_sets, workload_of
from stage_outcomes import KilledError, Script, files_of, judged, timeless
from torch import Tensor

from mtl_search.alignment import ALIGNMENTS
from mtl_search.alignment.base import Aligning
from mtl_search.alignment.mmd import mmd
from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.study_data import StudyData, load_data
from mtl_search.models.alignment_point import AlignmentModule, AlignmentPoint
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.forward_context import ForwardContext
from mtl_search.recipe import Component, Recipe, Schedule
from mtl_search.storage.checkpoint import load_checkpoint
from mtl_search.training.pairings import Pairs
from mtl_search.training.stages import run_stage
from mtl_search.training.workspace import Workload, Workspace
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS

NONE, DANN, HARD = Component("none"), Component("dann", {"hidden": 8}), Component("hard")
TASKS = ("digit", "odd", "ink")
ALIGNING = [name for name in ALIGNMENTS if name != "none"]


class Listening(Aligning):
    """An alignment of a user's own; it writes down how far the stage is, and how many rows meet."""

    def _aligner(self, alignment_points: Sequence[AlignmentPoint]) -> AlignmentModule:
        return Ear()


class Ear(AlignmentModule):
    def __init__(self) -> None:
        super().__init__()
        self.progress: list[float] = []
        self.rows: list[tuple[int, ...]] = []

    def forward(self, alignment_points: Sequence[AlignmentPoint], context: ForwardContext) -> None:
        self.progress.append(context.progress)
        self.rows.append(alignment_points[0].sizes)
        assert tuple(context.starts) == (0, 0)


def clouds(target: bool, rows: int = 240, labelled: int = 240) -> dict[str, dict[str, np.ndarray]]:
    """A plane in which one axis tells the label; on the other, data sets lie apart and spread differently."""
    draw = np.random.default_rng(int(target))
    label = draw.integers(0, 2, rows)
    place = draw.normal(1, 0.5, rows) if target else draw.normal(-1, 1, rows)
    x = np.stack([2.0 * label - 1 + draw.normal(0, 0.3, rows), place], 1).astype(np.float32)
    kept = np.where(np.arange(rows) < labelled, label, -1)
    return {"train": {"x": x, "y": kept}}


def cloud_data(labelled: int = 240) -> StudyData:
    sources = {
        name: {
            "python": {
                "function": "test_alignment:clouds",
                "params": {"target": name == "target", "labelled": labelled if name == "target" else 240},
                "inputs": ["x"],
            }
        }
        for name in ("source", "target")
    }
    kind = {"kind": "binary", "target": "y", "missing": -1}
    tasks = {name: TaskConfig.model_validate({**kind, "data": name}) for name in sources}
    return load_data(DataConfig.model_validate({"sources": sources}), tasks, seed=1)


@pytest.fixture(scope="module")
def unequal() -> Workload:
    return workload_of(two_data_sets())


def features(workspace: Workspace, model: Any) -> Tensor:
    x = torch.cat([workspace.splits["train"].inputs[name][:].single for name in ("source", "target")])
    for block in model.blocks:
        x = block[0](x)
    return x.detach()


def distance_after(workspace: Workspace, alignment: Component) -> float:
    """How far the data sets' features lie apart, by a measure that no scale of theirs changes."""
    model = workspace.model(["source", "target"], HARD, alignment)
    # Momentum makes the game of trunk and discriminator go round.
    schedule = Schedule(30, 48, Component("sgd", {"lr": 0.1, "momentum": 0.0}))
    step = step_of(workspace, model, schedule)
    step.enter(1)
    for epoch in range(1, schedule.epochs + 1):
        torch.manual_seed(epoch)
        step.run_epoch(epoch, lambda _: 1.0)
    sizes = [len(workspace.splits["train"].inputs[name][:].single) for name in ("source", "target")]
    return float(mmd(features(workspace, model), sizes))


@pytest.mark.parametrize("name", ALIGNING)
def test_features_of_data_sets_that_lie_apart_move_together(name: str) -> None:
    workspace = Workspace(workload_of(cloud_data()), DistributedContext())
    strength = 30.0 if name == "coral" else 1.0
    without = distance_after(workspace, NONE)
    found = distance_after(workspace, Component(name, {"strength": strength}))
    assert found < 0.5 * without


def test_progress_is_the_share_of_the_stages_steps_that_is_done(unequal: Workload) -> None:
    workspace = Workspace(unequal, DistributedContext())
    model = workspace.model(TASKS, HARD, Component("test_alignment:Listening"))
    schedule = Schedule(3, 32)
    step = step_of(workspace, model, schedule)
    step.enter(1)
    for epoch in (1, 2, 3):
        step.run_epoch(epoch, lambda _: 1.0)
    ear = model.alignment
    assert isinstance(ear, Ear)
    assert ear.progress == pytest.approx([number / (3 * step.steps) for number in range(3 * step.steps)])
    assert set(map(sum, ear.rows)) == {32}


def rewarded(epochs: int = 4, alignment: Component = DANN, **changes: Any) -> Recipe:
    schedule = Schedule(epochs, 32, Component("adamw", {"lr": 0.01}), **changes)
    return recipe_of(schedule, Schedule(1, 32), alignment=alignment)


@pytest.mark.parametrize(
    "changes", [{}, {"unfreezing": Component("shared", {"epochs": 2})}], ids=["", "frozen at first"]
)
def test_a_killed_stage_resumes_to_the_same_bits(
    changes: dict[str, Any], unequal: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtl_search.training.loop.CHECKPOINT_SHARE", 1e9)
    workspace = Workspace(unequal, DistributedContext())
    whole = joint_stage(workspace, rewarded(**changes), tmp_path)
    expected = run_stage(whole, workspace)
    stage = replace(whole, folder=str(tmp_path / "killed"))
    for epoch in (1, 3):
        with pytest.raises(KilledError):
            run_stage(stage, workspace, Script(kill=epoch))
    checkpoint = load_checkpoint(Path(stage.folder), torch.device("cpu"))
    assert checkpoint is not None
    own = {name for name in checkpoint["model"] if name.startswith("alignment.")}
    assert own == {f"alignment.discriminators.0.{name}" for name in ("weight", "bias", "hidden.weight", "hidden.bias")}
    assert timeless(run_stage(stage, workspace)) == timeless(expected)
    assert same(files_of(stage)[1], files_of(whole)[1])


@pytest.mark.parametrize("name", ALIGNING)
def test_the_model_that_is_kept_and_counted_has_no_trace_of_it(name: str, unequal: Workload, tmp_path: Path) -> None:
    workspace = Workspace(unequal, DistributedContext())
    without = joint_stage(workspace, rewarded(2, NONE), tmp_path, "without")
    aligned = joint_stage(workspace, rewarded(2, Component(name)), tmp_path, "aligned")
    results = [run_stage(stage, workspace) for stage in (without, aligned)]
    for fact in ("parameters", "multiply_adds"):
        assert getattr(results[0], fact) == getattr(results[1], fact)
    states = [files_of(stage)[1] for stage in (without, aligned)]
    assert states[0].keys() == states[1].keys()
    assert not same(*states)
    assert judged(aligned, workspace) == pytest.approx(results[1].metrics)


@pytest.mark.parametrize("weighting", [Component("mgda", {"at": "shared"}), Component("gradnorm"), Component("fixed")])
@pytest.mark.parametrize("name", ALIGNING)
def test_a_frozen_trunk_stays_as_it_is_wherever_tasks_are_balanced(
    name: str, weighting: Component, unequal: Workload
) -> None:
    workspace = Workspace(unequal, DistributedContext())
    model = workspace.model(TASKS, Component("hard", {"depth": 1}), Component(name))
    step = step_of(workspace, model, Schedule(1, 32, unfreezing=Component("shared")), build(WEIGHTINGS, weighting))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step.enter(1)
    step.run_epoch(1, lambda _: 1.0)
    moved = {key.split(".")[0] for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {"heads", "blocks"} <= moved  # the blocks above the frozen one
    assert all(
        torch.equal(value, before[key]) for key, value in model.state_dict().items() if key.startswith("blocks.0")
    )
    assert ("alignment" in moved) == (name == "dann")


# unlabelled rows


def test_rows_without_any_label_are_kept_and_come_into_batches() -> None:
    workload = workload_of(cloud_data(labelled=60))
    split = workload.data.splits["train"]
    assert split["target"].rows == split["source"].rows
    assert split["target"].masks["target"].sum() < 0.4 * split["target"].rows
    workspace = Workspace(workload, DistributedContext())
    model = workspace.model(["source", "target"], HARD, Component("test_alignment:Listening"))
    step = step_of(workspace, model, Schedule(1, 20))
    step.enter(1)
    step.run_epoch(1, lambda _: 1.0)
    assert isinstance(model.alignment, Ear)
    assert set(model.alignment.rows) == {(10, 10)}
    seen = torch.cat([batch.rows[1] for batch in step._train.epoch(1)])
    assert len(seen.unique()) == 10 * step.steps  # labels do not decide which rows are taken
    assert (~workspace.splits["train"].masks["target"])[seen].float().mean() > 0.6


@pytest.mark.parametrize("name", ALIGNING)
def test_rows_without_any_label_count_for_the_alignment_and_for_no_loss(name: str) -> None:
    workspace = Workspace(workload_of(cloud_data(labelled=60)), DistributedContext())
    train = workspace.splits["train"]
    unlabelled = ~train.masks["target"]
    grads = []
    for alignment in (NONE, Component(name)):
        model = workspace.model(["source", "target"], HARD, alignment)
        target = train.inputs["target"][:].single[unlabelled]
        x = torch.cat([train.inputs["source"][:20].single, target[:20]]).requires_grad_()
        context = ForwardContext(global_rows=(20, 20), progress=0.5)
        outputs = model(x, (20, 20), context)
        loss = (outputs["target"] * train.masks["target"][unlabelled][:20]).sum()
        torch.autograd.backward([loss, *context.penalties])
        grads.append(x.grad[20:].clone())
    assert not grads[0].any()
    assert grads[1].any(1).all()


def test_a_study_of_few_labels_trains_with_all_rows(tmp_path: Path) -> None:
    workspace = Workspace(workload_of(cloud_data(labelled=60)), DistributedContext())
    recipe = recipe_of(Schedule(2, 32), Schedule(1, 16), alignment=Component("mmd"))
    result = run_stage(joint_stage(workspace, recipe, tmp_path), workspace)
    assert result.metrics.keys() == {"source", "target"}


# what does not go together


def test_an_alignment_is_refused_where_nothing_is_shared_and_drawn_again_in_a_wider_space(unequal: Workload) -> None:
    pairs = Pairs(unequal)

    def recipes(sharings: list[str], alignments: list[str]) -> list[Recipe]:
        base = rewarded()
        return [replace(base, sharing=Component(s), alignment=Component(a)) for s in sharings for a in alignments]

    assert pairs.problems(recipes(["hard", "none"], ["none", "coral"])) == []
    assert pairs.problems(recipes(["none", "soft"], ["none"])) == []
    (problem,) = pairs.problems(recipes(["none", "soft"], ["none", "coral"]))
    assert problem.place == "space.alignment.coral"
    assert problem.rule.startswith("does not go with none: has nothing to align: tasks of different data sets")
    (problem,) = pairs.problems(recipes(["hard", "none"], ["mmd", "dann"]))
    assert problem.place == "space.sharing.none"
    refused, fine = recipes(["none", "hard"], ["dann"])
    assert "no representation in common" in pairs.refusal(refused)
    assert pairs.refusal(fine) == ""


def test_one_data_set_has_nothing_to_align() -> None:
    pairs = Pairs(workload_of(data_of({task: EVERY_KIND[task] for task in TASKS})))
    assert pairs._unaligned((), HARD, Component("mmd"))
    assert not pairs._unaligned((), HARD, NONE)
