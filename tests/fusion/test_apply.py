"""fuse: from single-task models to the start of the multi-task model of a plan."""

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mtl_search.data.task import Task
from mtl_search.errors import ConfigError
from mtl_search.fusion import FUSIONS
from mtl_search.fusion.apply import fuse
from mtl_search.fusion.base import Fusion
from mtl_search.fusion.mean import Mean
from mtl_search.fusion.measuring import MeasuringFusion
from mtl_search.fusion.weighted import Weighted
from mtl_search.models.backbones.mlp import Mlp
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.models.sharing.tree_sharing import TreeSharing
from mtl_search.recipe import Component
from mtl_search.transfer.bases import BASES
from mtl_search.variants.building import build

DEPTH = 3
SHAPE = (4,)
BACKBONE = Mlp(width=5, depth=DEPTH)
BASE = BASES["random"]().state(lambda: BACKBONE.blocks(SHAPE), seed=0)
TASKS = [Task(name, "regression", "main", (), 0, 1, "mse", Component("rmse"), "y") for name in ("a", "type", "c")]
NAMES = [task.name for task in TASKS]
TREE = SharingPlan(((("a", "type", "c"),), (("a", "c"), ("type",)), (("a",), ("type",), ("c",))))
DEEP = SharingPlan(((("a", "type", "c"),),) * DEPTH)
SEPARATE = SharingPlan.separate(NAMES, DEPTH)
FOR_THREE = [name for name in FUSIONS if name != "slerp"]


def model(plan: SharingPlan, tasks: list[Task] = TASKS) -> MultiTaskModel:
    return MultiTaskModel(BACKBONE, SHAPE, tasks, plan, ["main"])


def single(task: Task, spread: float) -> MultiTaskModel:
    """A single-task model as fine-tuning leaves it: some way from the base."""
    made = model(SharingPlan.separate([task.name], DEPTH), [task])
    made.load_base(BASE)
    made.initialise(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=spread)
    return made


@pytest.fixture
def singles() -> dict[str, MultiTaskModel]:
    torch.manual_seed(1)
    return {task.name: single(task, 0.1) for task in TASKS}


def states(singles: dict[str, MultiTaskModel]) -> dict[str, dict[str, Tensor]]:
    return {task: made.state_dict() for task, made in singles.items()}


def fused_by(
    fusion: Fusion, singles: dict[str, MultiTaskModel], plan: SharingPlan, into: MultiTaskModel | None = None
) -> dict[str, Tensor]:
    facts = {}
    if isinstance(fusion, MeasuringFusion):
        x = torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(1))
        facts = {task: fusion.measure(made.eval(), x, 0) for task, made in singles.items()}
    return fuse(states(singles), BASE, into or model(plan), fusion, facts=facts)


@pytest.mark.parametrize("plan", [TREE, DEEP, SEPARATE])
@pytest.mark.parametrize("name", FOR_THREE)
def test_fused_state_is_that_of_the_plans_model(
    singles: dict[str, MultiTaskModel], plan: SharingPlan, name: str
) -> None:
    fused = fused_by(build(FUSIONS, Component(name)), singles, plan)
    model(plan).load_state_dict(fused, strict=True)


@pytest.mark.parametrize("plan", [TREE, DEEP])
@pytest.mark.parametrize("name", FOR_THREE)
def test_order_of_tasks_does_not_show_in_the_fused_model(
    singles: dict[str, MultiTaskModel], plan: SharingPlan, name: str
) -> None:
    fusion, turned = build(FUSIONS, Component(name)), plan.ordered(NAMES[::-1])
    once = fused_by(fusion, singles, plan)
    again = fused_by(fusion, dict(reversed(singles.items())), turned)
    for task in NAMES:
        for block in range(DEPTH):
            mine, theirs = (f"blocks.{block}.{p.group_of(block, task)}.linear.weight" for p in (plan, turned))
            assert torch.equal(once[mine], again[theirs])


class Stored(Mapping[str, Tensor]):
    """A state whose tensors come anew each time, counted as long as they live."""

    alive = peak = 0

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.state[name].clone()
        Stored.alive += 1
        Stored.peak = max(Stored.peak, Stored.alive)
        weakref.finalize(tensor, self.gone)
        return tensor

    @staticmethod
    def gone() -> None:
        Stored.alive -= 1

    def __iter__(self) -> Iterator[str]:
        return iter(self.state)

    def __len__(self) -> int:
        return len(self.state)


@pytest.mark.parametrize("name", ["mean", "ties", "none"])
def test_no_more_is_read_at_a_time_than_one_tensor_of_every_model(
    singles: dict[str, MultiTaskModel], name: str
) -> None:
    stored = {task: Stored(state) for task, state in states(singles).items()}
    Stored.peak = 0
    fuse(stored, BASE, model(DEEP), build(FUSIONS, Component(name)))
    assert 0 < Stored.peak <= len(NAMES)


def test_without_fusion_all_starts_from_the_base_and_heads_are_fresh(singles: dict[str, MultiTaskModel]) -> None:
    into = model(TREE)
    fused = fused_by(build(FUSIONS, Component("none")), singles, TREE, into)
    for block, copies in enumerate(TREE.groups):
        for copy in range(len(copies)):
            assert torch.equal(fused[f"blocks.{block}.{copy}.linear.weight"], BASE[f"{block}.linear.weight"])
    heads = {name: value for name, value in into.state_dict().items() if name.startswith("heads.")}
    assert all(torch.equal(fused[name], value) for name, value in heads.items())
    assert all(fused[name].data_ptr() != value.data_ptr() for name, value in heads.items())


def test_upper_blocks_and_heads_keep_their_task_and_shared_blocks_get_the_fusion(
    singles: dict[str, MultiTaskModel],
) -> None:
    start = model(TREE)
    start.load_state_dict(fuse(states(singles), BASE, model(TREE), Mean()))

    def weight(of: MultiTaskModel, block: int, group: int) -> Tensor:
        found: Tensor = of.state_dict()[f"blocks.{block}.{group}.linear.weight"]
        return found

    def of_task(task: str, block: int) -> Tensor:
        return weight(singles[task], block, 0)

    torch.testing.assert_close(weight(start, 0, 0), torch.stack([of_task(task, 0) for task in NAMES]).mean(0))
    torch.testing.assert_close(weight(start, 1, 0), (of_task("a", 1) + of_task("c", 1)) / 2)
    assert torch.equal(weight(start, 1, 1), of_task("type", 1))
    for group, task in enumerate(NAMES):
        assert torch.equal(weight(start, 2, group), of_task(task, 2))
    x = torch.randn(3, 5)
    for ours, theirs in zip(start.heads.values(), (s.heads for s in singles.values()), strict=True):
        assert torch.equal(ours(x), next(iter(theirs.values()))(x))


@pytest.mark.parametrize("name", [name for name in FOR_THREE if not FUSIONS[name].from_base])
def test_depth_0_predicts_exactly_what_the_single_task_models_do(singles: dict[str, MultiTaskModel], name: str) -> None:
    start = model(SEPARATE)
    start.load_state_dict(fused_by(build(FUSIONS, Component(name)), singles, SEPARATE))
    x = torch.randn(6, *SHAPE)
    for task in NAMES:
        assert torch.equal(start(x)[task], singles[task](x)[task])


@pytest.mark.parametrize("name", FOR_THREE)
def test_shared_blocks_are_the_base_when_nothing_was_fine_tuned(name: str) -> None:
    untouched = {task.name: single(task, 0.0) for task in TASKS}
    fused = fused_by(build(FUSIONS, Component(name)), untouched, DEEP)
    for key, value in BASE.items():
        block, rest = key.split(".", 1)
        assert torch.equal(fused[f"blocks.{block}.0.{rest}"], value)


def test_task_alone_in_its_group_needs_no_coefficient(singles: dict[str, MultiTaskModel]) -> None:
    fused = fuse(states(singles), BASE, model(SEPARATE), Weighted({"a": 0.0}))
    assert torch.equal(fused["blocks.0.0.linear.weight"], singles["a"].state_dict()["blocks.0.0.linear.weight"])


def test_training_the_fused_model_leaves_the_single_task_models_alone(singles: dict[str, MultiTaskModel]) -> None:
    before = {task: {k: v.clone() for k, v in made.state_dict().items()} for task, made in singles.items()}
    start = model(TREE)
    start.load_state_dict(fuse(states(singles), BASE, model(TREE), Mean()), assign=True)
    with torch.no_grad():
        for parameter in start.parameters():
            parameter.zero_()
    for task, made in singles.items():
        assert all(torch.equal(value, before[task][name]) for name, value in made.state_dict().items())


def test_copies_start_from_the_tasks_that_the_plan_says(singles: dict[str, MultiTaskModel]) -> None:
    everyone = tuple(NAMES)
    starts = ((everyone, ("a",), ("a",), ("type", "c")),) * DEPTH
    plan = SharingPlan(((everyone,) * 4,) * DEPTH, starts, tree=False)
    made = MultiTaskModel(
        BACKBONE, SHAPE, TASKS, plan, ["main"], lambda layout: TreeSharing(replace(layout, plan=DEEP))
    )
    fused = fuse(states(singles), BASE, made, Mean())
    made.load_state_dict(fused)
    key = "linear.weight"
    own = {task: single.state_dict()[f"blocks.1.0.{key}"] for task, single in singles.items()}
    torch.testing.assert_close(fused[f"blocks.1.0.{key}"], sum(own.values()) / 3)
    torch.testing.assert_close(fused[f"blocks.1.3.{key}"], (own["type"] + own["c"]) / 2)
    first, second = fused[f"blocks.1.1.{key}"], fused[f"blocks.1.2.{key}"]
    assert torch.equal(first, own["a"])
    assert torch.equal(second, own["a"])
    assert first.data_ptr() != second.data_ptr()


def test_parts_that_do_not_fit_are_refused(singles: dict[str, MultiTaskModel]) -> None:
    with pytest.raises(ConfigError, match="must plan for the single-task models"):
        fuse({"a": singles["a"].state_dict()}, BASE, model(TREE), Mean())
    shallow = MultiTaskModel(Mlp(width=5, depth=2), SHAPE, TASKS, SharingPlan.separate(NAMES, 2), ["main"])
    with pytest.raises(ConfigError, match="must plan for block 3 of the backbone, got 2"):
        fuse(states(singles), BASE, shallow, Mean())
