"""The canonical form of recipes: recipes with one form train one model, and recipes with two train two."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_workloads import (
    BATCH_NORM,
    EVERY_KIND,
    MLP,
    data_of,
    joint_stage,
    same,
    two_data_sets,
    with_source_tasks,
    workspace_of,
)

from mtl_search.data.study_data import StudyData
from mtl_search.recipe import Component, Recipe, Schedule, content_key
from mtl_search.training.canonical import Canonical
from mtl_search.training.stages import is_finished, run_stage
from mtl_search.training.workspace import Workspace
from mtl_search.transfer import TRANSFERS
from mtl_search.variants.building import build

TASKS = ("digit", "odd", "ink")
PLAIN = {
    "sharing": Component("hard", {"depth": None}),
    "fusion": Component("mean", {}),
    "weighting": Component("fixed", {"log_ratio": 0.0}),
    "base": Component("random", {}),
    "transfer": Component("parameters", {}),
    "auxiliary": Component("none", {}),
    "alignment": Component("none", {}),
}
NONE, ONE = Component("none", {}), Component("hard", {"depth": 1})
STITCH = Component("cross_stitch", {"own": 0.9})
ADAMW = Component("adamw", {"lr": 3e-3, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.999})
SGD = Component("sgd", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.0, "nesterov": False})
HOT = Component("adamw", {**ADAMW.params, "lr": 0.05})
PARTS = {
    "optimizer": ADAMW,
    "decay": Component("cosine", {"warmup": 0.0, "floor": 0.0}),
    "unfreezing": Component("all", {}),
}
SINGLE = Schedule(2, 32, **PARTS)
JOINT = Schedule(3, 32, **PARTS)
NEVER = Component("never", {})
RATIOS = Component("fixed", {"log_ratio": {"odd": 1.0, "ink": -1.0}})
WEIGHTED = Component("weighted", {"coefficients": {"digit": 0.3, "odd": 1.0, "ink": 0.6}})


def recipe_of(**parts: Any) -> Recipe:
    return Recipe(**{**PLAIN, "single_task": SINGLE, "joint": JOINT, **parts})


def own(name: str, **params: Any) -> Component:
    return Component(name, params)


def joint(**parts: Any) -> Schedule:
    return replace(JOINT, **parts)


def single(**parts: Any) -> Schedule:
    return replace(SINGLE, **parts)


FUSIONS = {
    "mean": Component("mean", {}),
    "weighted": WEIGHTED,
    "scored": own("scored", power=2.0),
    "layerwise": own("layerwise", bottom={"digit": 0.1, "odd": 1.0, "ink": 1.0}, top=1.0),
    "task_arithmetic": own("task_arithmetic", scale=0.7),
    "ties": own("ties", keep=0.3, scale=0.8),
    "dare": own("dare", drop=0.5, scale=0.7),
    "fisher": own("fisher", rows=16, coefficients={"digit": 0.1, "odd": 1.0, "ink": 1.0}),
    "regmean": own("regmean", rows=16, shrink=0.5),
    "learned": own("learned", signal="labels", steps=4, lr=0.1),
    "learned_gate": own("learned_gate", width=4, signal="labels", steps=4, lr=0.1),
}


@dataclass(frozen=True)
class Twins:
    """Two recipes that are one.

    Attributes:
        one: What the first has of its own.
        other: What the second has.
        within: How far apart their parameters may end; 0 for the same bits.
        data: What they are trained on.
        backbone: Of both.
    """

    one: dict[str, Any]
    other: dict[str, Any]
    within: float = 0.0
    data: str = "whole"
    backbone: Component = MLP


@dataclass(frozen=True)
class Trained:
    """What a joint stage came to.

    Attributes:
        state: Of the model at its best epoch.
        metrics: Main validation metric by task after each epoch.
    """

    state: dict[str, torch.Tensor]
    metrics: list[dict[str, float]]


def _data(name: str) -> StudyData:
    chosen = {task: EVERY_KIND[task] for task in TASKS}
    if name == "two":
        return two_data_sets(metric="accuracy", holes=False)
    if name == "sources":
        return with_source_tasks()
    return data_of(chosen, rows=200, holes=name == "holes")


@pytest.fixture(scope="module")
def workspaces() -> Callable[[str, Component], Workspace]:
    made: dict[tuple[str, Component], Workspace] = {}

    def workspace(name: str, backbone: Component = MLP) -> Workspace:
        if (name, backbone) not in made:
            made[name, backbone] = workspace_of(_data(name), backbone)
        return made[name, backbone]

    return workspace


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Workspace, Recipe], Trained]:
    """Trains a recipe as it stands; every joint stage has one key, on which its order of rows depends."""
    folder = tmp_path_factory.mktemp("trained")

    def trained(workspace: Workspace, recipe: Recipe) -> Trained:
        recipe = build(TRANSFERS, recipe.transfer).applied(recipe)
        name = content_key(workspace.workload.key, recipe.single_task.to_dict())
        stage = joint_stage(workspace, recipe, folder / name)
        sources = workspace.workload.sources_of(recipe)
        place = folder / content_key(workspace.workload.key, recipe.to_dict())
        stage = replace(stage, tasks=(*stage.singles, *sources), sources=sources, folder=str(place))
        result = is_finished(stage) or run_stage(stage, workspace)
        return Trained(load_file(place / "model.safetensors"), [each.metrics for each in result.history])

    return trained


def same_fusion(fusion: Component, within: float = 0.0, backbone: Component = MLP, **parts: Any) -> Twins:
    return Twins({**parts, "fusion": fusion}, {**parts, "fusion": FUSIONS["mean"]}, within, backbone=backbone)


ROUNDING = 1e-4
"""What rounding grows to over some steps of training."""
EVEN = {"digit": 2.0, "odd": 2.0, "ink": 2.0}
GROUPS = [["digit", "ink"], ["odd"]]
STILL = single(unfreezing=NEVER)
FEATURES = own("features")
OTHERWISE = {"batch_size": 16, "optimizer": SGD, "clip_norm": 1.0, "average": 0.5, "patience": 1, "l2_sp": 0.1}
ALIGNED = {"coral": own("coral", strength=3.0), "dann": own("dann", strength=1.0, gamma=10.0, hidden=4)}
TWINS: dict[str, Twins] = {
    **{
        f"{name}, nothing shared": same_fusion(fusion, sharing=NONE)
        for name, fusion in FUSIONS.items()
        if name != "mean"
    },
    "weighted, cross stitch": same_fusion(WEIGHTED, sharing=STITCH),
    "learned, soft": same_fusion(FUSIONS["learned"], sharing=own("soft", strength=1e-3, form="l2", blocks=None)),
    "ties, an expert each": same_fusion(FUSIONS["ties"], sharing=own("experts", count=3, depth=0, private=0)),
    "ties, nothing shared, batch norm": same_fusion(FUSIONS["ties"], sharing=NONE, backbone=BATCH_NORM),
    "regmean, frozen alone": same_fusion(FUSIONS["regmean"], single_task=STILL),
    "task arithmetic, not fine-tuned": same_fusion(FUSIONS["task_arithmetic"], single_task=single(epochs=0)),
    "ties, features": same_fusion(FUSIONS["ties"], transfer=FEATURES),
    "learned, features, batch norm": same_fusion(FUSIONS["learned"], transfer=FEATURES, backbone=BATCH_NORM),
    "even weighted": same_fusion(own("weighted", coefficients=EVEN), ROUNDING),
    "even layerwise": same_fusion(own("layerwise", bottom=EVEN, top=0.5), ROUNDING),
    "task arithmetic of the mean": same_fusion(own("task_arithmetic", scale=1 / 3), ROUNDING),
    "dare that drops nothing": Twins(
        {"fusion": own("dare", drop=0.0, scale=0.7)}, {"fusion": FUSIONS["task_arithmetic"]}
    ),
    "even fisher": Twins(
        {"fusion": own("fisher", rows=16, coefficients=EVEN)},
        {"fusion": own("fisher", rows=16, coefficients=1.0)},
        ROUNDING,
    ),
    "hard to depth 0": Twins({"sharing": own("hard", depth=0)}, {"sharing": NONE}),
    "hard to the top": Twins({"sharing": own("hard", depth=2)}, {"sharing": own("hard", depth=None)}),
    "tree of one group": Twins(
        {"sharing": own("tree", groups=[list(TASKS)], depth=1, until=None, affinity="cosine")},
        {"sharing": own("hard", depth=None)},
    ),
    "tree of single tasks": Twins(
        {"sharing": own("tree", groups=[[task] for task in TASKS], depth=1, until=2, affinity="cosine")},
        {"sharing": ONE},
    ),
    "tree to the top": Twins(
        {"sharing": own("tree", groups=GROUPS, depth=1, until=2, affinity="cosine")},
        {"sharing": own("tree", groups=GROUPS, depth=1, until=None, affinity="cosine")},
    ),
    "soft to the top": Twins(
        {"sharing": own("soft", strength=0.1, form="l2", blocks=2)},
        {"sharing": own("soft", strength=0.1, form="l2", blocks=None)},
    ),
    "experts on top": Twins(
        {"sharing": own("experts", count=2, depth=1, private=0)},
        {"sharing": own("experts", count=2, depth=None, private=0)},
    ),
    "heads first to the end": Twins(
        {"joint": joint(unfreezing=own("heads_first", epochs=3))}, {"joint": joint(unfreezing=NEVER)}
    ),
    "shared frozen, nothing shared": Twins(
        {"sharing": NONE, "joint": joint(unfreezing=own("shared", epochs=2))}, {"sharing": NONE}
    ),
    "shared frozen, all shared": Twins(
        {"joint": joint(unfreezing=own("shared", epochs=2))}, {"joint": joint(unfreezing=own("heads_first", epochs=2))}
    ),
    "unfreezing of features": Twins(
        {"transfer": FEATURES, "joint": joint(unfreezing=own("gradual", epochs=1))}, {"transfer": FEATURES}
    ),
    "features by their unfreezing": Twins(
        {"transfer": FEATURES}, {"single_task": STILL, "joint": joint(unfreezing=NEVER)}
    ),
    "rates of frozen blocks": Twins(
        {"joint": joint(unfreezing=NEVER, layer_decay=0.5, l2_sp=0.3)}, {"joint": joint(unfreezing=NEVER)}
    ),
    "patience to the end": Twins({"joint": joint(patience=3)}, {}),
    "temperature of one data set": Twins({"joint": joint(temperature=4.0)}, {}),
    "a stage of no epoch": Twins(
        {"joint": joint(epochs=0, **OTHERWISE), "weighting": own("uncertainty", lr=0.1)}, {"joint": joint(epochs=0)}
    ),
    "single tasks of no epoch": Twins(
        {"single_task": single(epochs=0, **OTHERWISE)}, {"single_task": single(epochs=0)}
    ),
    "ratios of 0": Twins({"weighting": own("fixed", log_ratio={"odd": 0.0, "ink": 0.0})}, {}),
    "dwa without two means": Twins(
        {"weighting": own("dwa", temperature=0.5), "joint": joint(epochs=2)}, {"joint": joint(epochs=2)}
    ),
    "ratios, nothing shared": Twins({"sharing": NONE, "weighting": RATIOS}, {"sharing": NONE}, ROUNDING),
    **{
        f"{name} of features": Twins({"transfer": FEATURES, "alignment": part}, {"transfer": FEATURES}, data="two")
        for name, part in ALIGNED.items()
    },
    "coral of no epoch": Twins(
        {"joint": joint(epochs=0), "alignment": ALIGNED["coral"]}, {"joint": joint(epochs=0)}, data="two"
    ),
}
OTHERS: dict[str, Twins] = {
    **{f"{name}, all shared": Twins({"fusion": fusion}, {}) for name, fusion in FUSIONS.items() if name != "mean"},
    "from the base, nothing shared": Twins({"sharing": NONE, "fusion": own("none")}, {"sharing": NONE}),
    "from the base, features": Twins({"transfer": FEATURES, "fusion": own("none")}, {"transfer": FEATURES}),
    "ratios, one shared": Twins({"sharing": ONE, "weighting": RATIOS}, {"sharing": ONE}),
    "ratios, nothing shared, sgd": Twins(
        {"sharing": NONE, "weighting": RATIOS, "joint": joint(optimizer=SGD)},
        {"sharing": NONE, "joint": joint(optimizer=SGD)},
    ),
    "ratios, nothing shared, clipped": Twins(
        {"sharing": NONE, "weighting": RATIOS, "joint": joint(clip_norm=0.1)},
        {"sharing": NONE, "joint": joint(clip_norm=0.1)},
    ),
    "ratios, nothing shared, pulled": Twins(
        {"sharing": NONE, "weighting": RATIOS, "joint": joint(l2_sp=1.0)}, {"sharing": NONE, "joint": joint(l2_sp=1.0)}
    ),
    "ratios, nothing shared, holes": Twins({"sharing": NONE, "weighting": RATIOS}, {"sharing": NONE}, data="holes"),
    "ratios, soft": Twins(
        {"sharing": own("soft", strength=1.0, form="l2", blocks=None), "weighting": RATIOS},
        {"sharing": own("soft", strength=1.0, form="l2", blocks=None)},
    ),
    "learned weights, nothing shared": Twins(
        {"sharing": NONE, "weighting": own("uncertainty", lr=0.5)}, {"sharing": NONE}
    ),
    "dwa with two means": Twins({"weighting": own("dwa", temperature=0.5)}, {}),
    "one shared": Twins({"sharing": ONE}, {}),
    "heads first": Twins({"joint": joint(unfreezing=own("heads_first", epochs=2))}, {"joint": joint(unfreezing=NEVER)}),
    "rates of blocks": Twins({"joint": joint(layer_decay=0.5)}, {}),
    "a pull on blocks": Twins({"joint": joint(l2_sp=0.3)}, {}),
    "patience": Twins({"joint": joint(epochs=8, patience=1, optimizer=HOT)}, {"joint": joint(epochs=8, optimizer=HOT)}),
    "temperature of two data sets": Twins({"joint": joint(temperature=4.0)}, {}, data="two"),
    "batches of a fusion that learns": Twins(
        {"fusion": FUSIONS["learned"], "joint": joint(epochs=0, batch_size=16)},
        {"fusion": FUSIONS["learned"], "joint": joint(epochs=0)},
    ),
    "single tasks": Twins({"single_task": single(optimizer=SGD)}, {}),
    "coral": Twins({"alignment": ALIGNED["coral"]}, {}, data="two"),
    "dann of features, clipped": Twins(
        {"transfer": FEATURES, "alignment": ALIGNED["dann"], "joint": joint(clip_norm=0.01, optimizer=SGD)},
        {"transfer": FEATURES, "joint": joint(clip_norm=0.01, optimizer=SGD)},
        data="two",
    ),
    "coral of features under cross stitch": Twins(
        {
            "transfer": FEATURES,
            "alignment": ALIGNED["coral"],
            "sharing": STITCH,
        },
        {"transfer": FEATURES, "sharing": STITCH},
        data="two",
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_recipes_of_one_canonical_form_train_the_same_model(name: str, workspaces: Any, train: Any) -> None:
    twins = TWINS[name]
    workspace = workspaces(twins.data, twins.backbone)
    one, other = (recipe_of(**parts) for parts in (twins.one, twins.other))
    canonical = Canonical(workspace.workload)
    assert canonical.of(one) == canonical.of(other)
    assert canonical.of(one).key == canonical.of(other).key
    assert canonical.of(canonical.of(one)) == canonical.of(one)
    first, *others = (train(workspace, recipe) for recipe in (one, other, canonical.of(one)))
    for trained in others:
        assert trained.state.keys() == first.state.keys()
        assert all((value - first.state[name]).abs().max() <= twins.within for name, value in trained.state.items())
        assert twins.within or trained.metrics == first.metrics


@pytest.mark.parametrize("name", OTHERS)
def test_recipes_that_train_other_models_stay_two(name: str, workspaces: Any, train: Any) -> None:
    pair = OTHERS[name]
    workspace = workspaces(pair.data, pair.backbone)
    recipes = [recipe_of(**parts) for parts in (pair.one, pair.other)]
    canonical = Canonical(workspace.workload)
    assert canonical.of(recipes[0]).key != canonical.of(recipes[1]).key
    one, other = (train(workspace, recipe) for recipe in recipes)
    assert one.metrics != other.metrics or not same(one.state, other.state)


def test_single_task_models_that_nothing_starts_from_are_the_baselines(workspaces: Any, train: Any) -> None:
    workspace = workspaces("whole")
    canonical = Canonical(workspace.workload, single_task=SINGLE)
    one, other = (recipe_of(fusion=own("none"), single_task=each) for each in (single(optimizer=SGD), SINGLE))
    assert canonical.of(one) == canonical.of(other) == other
    assert same(train(workspace, one).state, train(workspace, other).state)
    fused = replace(one, fusion=own("mean"))
    assert canonical.of(fused) == fused
    # With batch norm the start is another where single-task training moves no block.
    still = replace(one, single_task=STILL)
    normed = workspaces("whole", BATCH_NORM)
    assert Canonical(normed.workload, single_task=SINGLE).of(still) == still


def test_fresh_parameters_are_the_random_base_whatever_is_left_behind(workspaces: Any) -> None:
    canonical = Canonical(workspaces("whole").workload)
    bases = [own("random"), own("pretrain", epochs=2), own("checkpoint", path="nowhere")]
    fresh = [canonical.of(recipe_of(base=base, transfer=own("structure"))) for base in bases]
    assert fresh == [recipe_of()] * 3
    assert canonical.of(recipe_of(base=bases[1])) != recipe_of()


def test_a_sharing_takes_the_groups_that_were_measured(workspaces: Any) -> None:
    auto = recipe_of(sharing=own("tree", groups="auto", depth=1, until=None, affinity="look_ahead"))
    workload = workspaces("whole").workload
    assert Canonical(workload).of(auto) == auto
    given = replace(auto, sharing=own("tree", groups=GROUPS, depth=1, until=None, affinity="cosine"))
    assert Canonical(workload, {"look_ahead": GROUPS}).of(auto) == given
    assert Canonical(workload, {"look_ahead": [list(TASKS)]}).of(auto) == recipe_of()


def test_a_recipe_that_fits_nothing_is_left_to_whoever_trains_it(workspaces: Any) -> None:
    canonical = Canonical(workspaces("whole").workload)
    for parts in (
        {"sharing": own("hard", depth=9)},
        {"fusion": own("weighted", coefficients={"digit": 0.0, "odd": 0.0, "ink": 0.0})},
        {"joint": joint(optimizer=own("sgd", momentum=0.0, nesterov=True)), "sharing": NONE, "weighting": RATIOS},
        {"weighting": own("auto_lambda", holdout=1.0)},
    ):
        assert canonical.of(recipe_of(**parts)) == recipe_of(**parts)


def test_own_variants_are_never_told_to_be_simpler_ones(workspaces: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_parts.py").write_text(
        "from mtl_search.fusion.weighted import Weighted\n"
        "from mtl_search.weighting.fixed import Fixed\n"
        "class Half(Weighted):\n"
        "    def _fuse(self, values, tasks, base, at):\n"
        "        return values[0] / 2\n"
        "class Late(Fixed):\n"
        "    pass\n"
    )
    canonical = Canonical(workspaces("whole").workload)
    recipe = recipe_of(fusion=own("own_parts:Half"), weighting=own("own_parts:Late"))
    assert canonical.of(recipe) == recipe
    apart = replace(recipe, sharing=NONE)
    assert canonical.of(apart) == replace(apart, fusion=own("mean"))
