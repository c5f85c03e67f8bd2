"""The frozen prefix: training from kept activations is training to the bit, and whatever changes misses them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from small_workloads import (
    BATCH_NORM,
    EVERY_KIND,
    MLP,
    data_of,
    joint_stage,
    recipe_of,
    same,
    single_stages,
    two_data_sets,
    workload_of,
)
from stage_outcomes import KilledError, Script, files_of, timeless
from torch import Tensor, nn

from mtl_search.config.study_config import ActivationsConfig, DataConfig, TaskConfig
from mtl_search.data.study_data import StudyData, load_data
from mtl_search.models.distributed import DistributedContext
from mtl_search.recipe import Component, Recipe, Schedule
from mtl_search.training.stages import run_stage
from mtl_search.training.workspace import Workspace

ADAMW = Component("adamw", {"lr": 0.01})
NONE, PLENTY = ActivationsConfig(host_mib=0, disk_mib=0), ActivationsConfig()
NEVER, GRADUAL, HEADS_FIRST = Component("never"), Component("gradual"), Component("heads_first", {"epochs": 2})
SINGLE = Schedule(1, 32, ADAMW, unfreezing=NEVER)
DEEP = Component("mlp", {"width": 12, "depth": 3})


@pytest.fixture(scope="module")
def two_tasks() -> StudyData:
    """One data set with two tasks, each with missing labels."""
    return data_of({task: EVERY_KIND[task] for task in ("digit", "ink")}, rows=120)


def images() -> dict[str, dict[str, np.ndarray]]:
    bunch = load_digits()
    x = bunch.images[:120].astype(np.uint8)[..., None]
    return {"train": {"x": x, "digit": bunch.target[:120], "odd": bunch.target[:120] % 2}}


def pictures() -> StudyData:
    tasks = {name: TaskConfig.model_validate(EVERY_KIND[name] | {"metric": None}) for name in ("digit", "odd")}
    source = {"python": {"function": "test_frozen_prefix:images"}}
    return load_data(DataConfig.model_validate({"source": source}), tasks, seed=1)


def reviews(folder: Path) -> StudyData:
    draw = np.random.default_rng(0)
    words = ["good", "bad", "fine", "awful", "dull", "grand", "film", "book"]
    texts = [" ".join(draw.choice(words, draw.integers(2, 9))) for _ in range(150)]
    frame = pd.DataFrame({"text": texts, "shop": draw.choice(["n", "s"], 150), "liked": draw.integers(0, 2, 150)})
    frame.to_csv(folder / "reviews.csv", index=False)
    table = {"path": str(folder / "reviews.csv"), "text": ["text"], "text_features": 64, "inputs": ["text"]}
    tasks = {
        name: TaskConfig.model_validate({"kind": "binary", "target": target})
        for name, target in (("liked", "liked"), ("north", "shop"))
    }
    return load_data(DataConfig.model_validate({"source": {"table": table}}), tasks, seed=1)


def outcome(
    workspace: Workspace, recipe: Recipe, folder: Path
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Result and model of a joint stage, and the models it began with."""
    stage = joint_stage(workspace, recipe, folder)
    result = timeless(run_stage(stage, workspace))
    singles = {task: files_of(single)[1] for task, single in single_stages(workspace, recipe, folder).items()}
    return {**result, "key": None}, files_of(stage)[1], singles


def assert_the_same(
    data: StudyData, backbone: Component, recipe: Recipe, folder: Path, budget: ActivationsConfig = PLENTY
) -> Workspace:
    """That a budget changes no bit; gives the workspace that had it."""
    workload = workload_of(data, backbone)
    without, cached = Workspace(workload, DistributedContext(), NONE), Workspace(workload, DistributedContext(), budget)
    plain, kept = (outcome(each, recipe, folder / name) for each, name in ((without, "plain"), (cached, "kept")))
    assert kept[0] == plain[0]
    assert same(kept[1], plain[1])
    assert all(same(kept[2][task], plain[2][task]) for task in plain[2])
    assert without.activations.made == 0
    return cached


ONE_TABLE: dict[str, tuple[Component, Component, int]] = {
    "all of the trunk": (Component("hard"), Component("fixed"), 3),
    "a part of the trunk": (Component("hard", {"depth": 2}), Component("fixed"), 2),
    "balanced at the end of the trunk": (Component("hard"), Component("mgda"), 3),
    "balanced where kept blocks end": (Component("hard", {"depth": 2}), Component("mgda"), 2),
    "balanced at parameters": (Component("hard", {"depth": 2}), Component("mgda", {"at": "shared"}), 2),
    "look-ahead": (Component("hard", {"depth": 2}), Component("auto_lambda"), 2),
    "tree": (
        Component("tree", {"groups": [["digit"], ["ink"]], "depth": 1, "until": 2}),
        Component("mgda"),
        1,
    ),
    "experts": (Component("experts", {"count": 2, "depth": 1}), Component("mgda"), 1),
    "adapters": (Component("adapters", {"rank": 2, "depth": 2}), Component("mgda"), 2),
    "cross-stitch": (Component("cross_stitch"), Component("fixed"), 0),
    "nothing shared": (Component("none"), Component("fixed"), 0),
}


@pytest.mark.parametrize("case", ONE_TABLE)
def test_every_sharing_trains_to_the_bit(case: str, two_tasks: StudyData, tmp_path: Path) -> None:
    sharing, weighting, depth = ONE_TABLE[case]
    schedule = Schedule(2, 32, ADAMW, unfreezing=NEVER, clip_norm=1.0, average=0.5)
    recipe = replace(recipe_of(schedule, SINGLE, weighting=weighting), sharing=sharing)
    cached = assert_the_same(two_tasks, DEEP, recipe, tmp_path)
    # The single-task models make one entry for training and one for validation, and both of them share these. The
    # trunk is the same in joint training, but entries for less than all of it are others.
    assert cached.activations.made == (2 if depth in (0, 3) else 4)
    model = cached.workload.network(["digit", "ink"], sharing)
    assert model.coupling.skippable_blocks == depth


OWN_DATA: dict[str, tuple[Component, Component, int]] = {
    "hard": (Component("hard", {"depth": 2}), Component("fixed"), 2),
    "balanced": (Component("hard", {"depth": 2}), Component("mgda"), 2),
    "tree by data set": (
        Component("tree", {"groups": [["digit", "ink"], ["odd"]], "depth": 1, "until": 2}),
        Component("fixed"),
        1,
    ),
    "adversarial": (Component("adversarial"), Component("fixed"), 0),
}


@pytest.mark.parametrize("case", OWN_DATA)
def test_several_data_sets_train_to_the_bit(case: str, unequal: StudyData, tmp_path: Path) -> None:
    sharing, weighting, depth = OWN_DATA[case]
    schedule = Schedule(2, 19, ADAMW, unfreezing=GRADUAL, temperature=3.0)
    recipe = replace(recipe_of(schedule, SINGLE, weighting=weighting), sharing=sharing)
    cached = assert_the_same(unequal, DEEP, recipe, tmp_path)
    assert cached.workload.network(["digit", "odd", "ink"], sharing).coupling.skippable_blocks == depth


@pytest.mark.parametrize("sharing", ["none", "soft"])
def test_a_copy_per_data_set_is_kept_too(sharing: str, tmp_path: Path) -> None:
    tasks = {
        "digit": {**EVERY_KIND["digit"], "data": "large"},
        "odd": {**EVERY_KIND["odd"], "data": "small", "metric": "accuracy"},
    }
    source = {"function": "small_workloads:images", "inputs": ["x"]}
    sources = {
        name: {"python": {**source, "params": {"first": first, "rows": rows, "holes": True}}}
        for name, first, rows in (("large", 0, 120), ("small", 400, 50))
    }
    chosen = {name: TaskConfig.model_validate(task) for name, task in tasks.items()}
    data = load_data(DataConfig.model_validate({"sources": sources}), chosen, seed=1)
    schedule = Schedule(3, 16, ADAMW, unfreezing=GRADUAL)
    recipe = replace(recipe_of(schedule, SINGLE), sharing=Component(sharing))
    cached = assert_the_same(data, MLP, recipe, tmp_path)
    assert cached.workload.network(list(tasks), Component(sharing)).coupling.skippable_blocks == 2
    # For each single-task model two, and for the joint stage two with both blocks frozen and two with one.
    assert cached.activations.made == 8


@pytest.mark.parametrize(
    ("unfreezing", "backbone"),
    [(GRADUAL, DEEP), (HEADS_FIRST, DEEP), (Component("shared"), DEEP), (GRADUAL, BATCH_NORM)],
    ids=["gradual", "heads first", "shared", "batch norm"],
)
def test_every_schedule_trains_to_the_bit(
    unfreezing: Component, backbone: Component, two_tasks: StudyData, tmp_path: Path
) -> None:
    schedule = Schedule(4, 32, ADAMW, unfreezing=unfreezing, l2_sp=0.1, layer_decay=0.9)
    assert_the_same(two_tasks, backbone, recipe_of(schedule, SINGLE), tmp_path)


def test_convolutions_train_to_the_bit(tmp_path: Path) -> None:
    schedule = Schedule(3, 16, ADAMW, unfreezing=GRADUAL)
    single = Schedule(1, 16, ADAMW, unfreezing=NEVER)
    backbone = Component("resnet", {"width": 8, "stages": 2})
    cached = assert_the_same(pictures(), backbone, recipe_of(schedule, single), tmp_path)
    assert cached.activations.made > 2


def test_sparse_text_trains_to_the_bit(tmp_path: Path) -> None:
    cached = assert_the_same(reviews(tmp_path), MLP, recipe_of(SINGLE, SINGLE), tmp_path)
    assert cached.activations.made == 2


def test_a_disk_trains_to_the_bit(two_tasks: StudyData, tmp_path: Path) -> None:
    budget = ActivationsConfig(host_mib=0, disk_mib=1)
    cached = assert_the_same(two_tasks, MLP, recipe_of(SINGLE, SINGLE), tmp_path, budget)
    assert cached.activations.held()[1] > 0


def test_later_epochs_and_trials_with_the_same_base_compute_nothing_again(two_tasks: StudyData, tmp_path: Path) -> None:
    workspace = Workspace(workload_of(two_tasks), DistributedContext(), PLENTY)
    recipe = recipe_of(Schedule(3, 32, ADAMW, unfreezing=NEVER), SINGLE)
    stage = joint_stage(workspace, recipe, tmp_path)
    run_stage(stage, workspace)
    store = workspace.activations
    assert store.made == 2
    other = replace(recipe.joint, optimizer=Component("sgd", {"lr": 0.1}))
    before = store.found
    run_stage(replace(stage, recipe=replace(recipe, joint=other), folder=str(tmp_path / "other")), workspace)
    assert store.made == 2
    assert store.found == before + 3 + 4  # training epochs, and the start and every epoch on validation


def entries(workspace: Workspace, schedule: Schedule, folder: Path) -> int:
    """New entries that a single-task model makes."""
    before = workspace.activations.made
    stage = single_stages(workspace, recipe_of(Schedule(), schedule), folder)["ink"]
    run_stage(stage, workspace)
    return workspace.activations.made - before


def test_a_changed_base_batch_or_data_set_misses_what_is_kept(unequal: StudyData, tmp_path: Path) -> None:
    workspace = Workspace(workload_of(unequal), DistributedContext(), PLENTY)
    assert entries(workspace, SINGLE, tmp_path / "first") == 2
    assert entries(workspace, SINGLE, tmp_path / "again") == 0
    assert entries(workspace, replace(SINGLE, batch_size=16), tmp_path / "batch") == 1  # validation is as it was
    workspace.base["0.linear.weight"][0, 0] += 1e-7
    assert entries(workspace, SINGLE, tmp_path / "base") == 2
    assert entries(workspace, SINGLE, tmp_path / "base again") == 0
    odd = single_stages(workspace, recipe_of(Schedule(), SINGLE), tmp_path / "data")["odd"]
    before = workspace.activations.made
    run_stage(odd, workspace)
    assert workspace.activations.made == before + 2


def test_a_changed_schedule_misses_what_is_kept(two_tasks: StudyData, tmp_path: Path) -> None:
    workspace = Workspace(workload_of(two_tasks), DistributedContext(), PLENTY)
    assert entries(workspace, replace(SINGLE, unfreezing=Component("all")), tmp_path / "all") == 0
    assert entries(workspace, SINGLE, tmp_path / "never") == 2
    # The first block alone in the second epoch; both blocks, as in the first, are there.
    assert entries(workspace, replace(SINGLE, epochs=2, unfreezing=GRADUAL), tmp_path / "gradual") == 2


def test_dropout_in_a_frozen_block_ends_what_is_kept_and_is_said_once(
    two_tasks: StudyData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dropout = Component("mlp", {"width": 12, "depth": 2, "dropout": 0.2})
    cached = assert_the_same(two_tasks, dropout, recipe_of(SINGLE, SINGLE), tmp_path)
    assert cached.activations.made == 1  # in evaluation there is no dropout
    told = [record.message for record in caplog.records if "not kept" in record.message]
    reason = "a block draws random numbers in training, as dropout does"
    assert told == [f"activations after {depth} frozen blocks are not kept: {reason}" for depth in (2, 1)]


class Crowded(nn.Module):
    """Gives a row something of the others in its batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Counting(nn.Module):
    """Changes a buffer in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("times", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.times += 1
        return x


class Turned(nn.Module):
    """Gives a tensor of another order in memory."""

    def forward(self, x: Tensor) -> Tensor:
        return x.T.contiguous().T


def odd_blocks(input_shape: tuple[int, ...], kind: str) -> list[nn.Module]:
    odd = {"crowded": Crowded, "counting": Counting, "turned": Turned}[kind]()
    return [nn.Linear(input_shape[0], 8), nn.Sequential(nn.Linear(8, 8), odd)]


@pytest.mark.parametrize(
    ("kind", "reason"), [("crowded", "companions"), ("counting", "changes its buffers"), ("turned", "not contiguous")]
)
def test_what_cannot_be_kept_to_the_bit_is_not(
    kind: str, reason: str, two_tasks: StudyData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = Component("python", {"function": "test_frozen_prefix:odd_blocks", "params": {"kind": kind}})
    assert_the_same(two_tasks, backbone, recipe_of(SINGLE, SINGLE), tmp_path)
    assert reason in caplog.text


def test_a_resumed_stage_goes_on_from_what_is_kept_with_the_same_bits(
    two_tasks: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtl_search.training.loop.CHECKPOINT_SHARE", 1e9)
    workspace = Workspace(workload_of(two_tasks, DEEP), DistributedContext(), PLENTY)
    whole = joint_stage(workspace, recipe_of(Schedule(4, 32, ADAMW, unfreezing=GRADUAL, average=0.9)), tmp_path)
    expected = run_stage(whole, workspace)
    for epoch in (1, 2):
        stage = replace(whole, folder=str(tmp_path / f"killed {epoch}"))
        with pytest.raises(KilledError):
            run_stage(stage, workspace, Script(kill=epoch))
        assert timeless(run_stage(stage, Workspace(workspace.workload, DistributedContext(), NONE))) == timeless(
            expected
        )
        assert same(files_of(stage)[1], files_of(whole)[1])


def test_two_data_sets_of_unequal_batches_are_kept_whole(tmp_path: Path) -> None:
    # At a high temperature the small data set goes round while the large one is read once.
    cached = assert_the_same(
        two_data_sets((200, 30)), MLP, recipe_of(replace(SINGLE, batch_size=24, temperature=9.0), SINGLE), tmp_path
    )
    assert cached.activations.made == 6
