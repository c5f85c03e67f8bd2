"""What every sharing promises, over the family's dict."""

import copy
import pickle
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mtl_search.data.task import Task
from mtl_search.fusion.apply import fuse
from mtl_search.fusion.mean import Mean
from mtl_search.models.backbones.mlp import Mlp
from mtl_search.models.forward_context import ForwardContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.models.sharing import SHARINGS
from mtl_search.models.sharing.base import Sharing
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.recipe import Component
from mtl_search.transfer.bases import BASES
from mtl_search.variants.building import build

DEPTH, SHAPE, DATASETS = 3, (4,), ("x", "y")
BACKBONE = Mlp(width=5, depth=DEPTH)
TASKS = [
    Task("a", "classification", "x", ("p", "q", "r"), 0, 1, "cross_entropy", Component("accuracy"), "a"),
    Task("b", "regression", "y", (), 0, 1, "mse", Component("rmse"), "b"),
    Task("c", "binary", "x", ("no", "yes"), 0, 1, "bce", Component("accuracy"), "c"),
]
NAMES = [task.name for task in TASKS]
BASE = BASES["random"]().state(lambda: BACKBONE.blocks(SHAPE), seed=9)
PARAMS: dict[str, list[dict[str, Any]]] = {
    "hard": [{}, {"depth": 1}, {"depth": 0}],
    "tree": [{"groups": [["a", "c"], ["b"]]}, {"groups": [["b", "a"], ["c"]], "until": 2}],
    "soft": [{"strength": 0.5}, {"form": "trace", "blocks": 2}],
    "experts": [{"count": 3}, {"count": 3, "depth": 0, "private": 2}, {"count": 6, "depth": 1}],
    "adapters": [{"rank": 2}, {"depth": 1}, {"depth": 2, "start": "zero"}],
    "adversarial": [{}, {"orthogonality": 0.0}],
}
SHARED = {
    "hard-0": {"blocks.0.0", "blocks.1.0", "blocks.2.0"},
    "hard-1": {"blocks.0.0"},
    "tree-0": {"blocks.0.0", "blocks.1.0", "blocks.2.0"},
    "tree-1": {"blocks.0.0", "blocks.1.0"},
    "experts-0": {"blocks.0.0", "blocks.1.0", "blocks.2.0", "blocks.2.1", "blocks.2.2"},
    "experts-1": {f"blocks.{block}.{expert}" for block in range(3) for expert in range(3)},
    "experts-2": {"blocks.0.0", *(f"blocks.{block}.{expert}" for block in (1, 2) for expert in range(6))},
    "adversarial-0": {"blocks.0.0", "blocks.1.0", "blocks.2.0"},
    "adversarial-1": {"blocks.0.0", "blocks.1.0", "blocks.2.0"},
    "cross_stitch-0": {f"blocks.{block}.{task}" for block in range(3) for task in range(3)}
    | {"coupling.stitches.0", "coupling.stitches.1"},
} | {f"adapters-{number}": {"blocks.0.0", "blocks.1.0", "blocks.2.0"} for number in range(3)}
UNSHARED = {"hard-2", "none-0", "soft-0", "soft-1"}
WITHOUT_REPRESENTATION = {*UNSHARED, "adapters-0"}

VARIANTS = {
    f"{name}-{number}": Component(name, params)
    for name in SHARINGS
    for number, params in enumerate(PARAMS.get(name, [{}]))
}
over_variants = pytest.mark.parametrize("variant", VARIANTS)
over_boundaries = pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in WITHOUT_REPRESENTATION])
names = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, unique=True)


def sharing_for(name: str, tasks: Sequence[str]) -> Sharing:
    """The variant with its defaults, and a tree with groups of these tasks."""
    return build(SHARINGS, Component(name, {"groups": [list(tasks)]} if name == "tree" else {}))


def made(variant: str, tasks: Sequence[Task] = TASKS, seed: int = 3) -> MultiTaskModel:
    sharing = build(SHARINGS, VARIANTS[variant])
    plan = sharing.plan([task.name for task in tasks], DEPTH)
    datasets = [name for name in DATASETS if any(task.dataset == name for task in tasks)]
    model = MultiTaskModel(BACKBONE, SHAPE, tasks, plan, datasets, sharing.module_factory)
    model.initialise(seed)
    return model


@cache
def single(task: Task, seed: int) -> MultiTaskModel:
    """A single-task model as fine-tuning leaves it; the seed decides its blocks."""
    model = MultiTaskModel(BACKBONE, SHAPE, [task], SharingPlan.separate([task.name], DEPTH), [task.dataset])
    model.load_base(BASE)
    model.initialise(0)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


@cache
def _fused(variant: str, tasks: tuple[Task, ...], alike: bool) -> MultiTaskModel:
    singles = {task.name: single(task, 0 if alike else NAMES.index(task.name)).state_dict() for task in tasks}
    model = made(variant, tasks)
    model.load_state_dict(fuse(singles, BASE, model, Mean()))
    return model


def fused(variant: str, tasks: Sequence[Task] = TASKS, *, alike: bool = False) -> MultiTaskModel:
    """Started from single-task models of random parameters, or from ones with the same blocks."""
    return copy.deepcopy(_fused(variant, tuple(tasks), alike))


def batch(rows: int) -> Tensor:
    return torch.randn(rows, *SHAPE, generator=torch.Generator().manual_seed(rows))


def total(outputs: dict[str, Tensor]) -> list[Tensor]:
    """A loss per task, of different scales."""
    return [(value.sin() * (number + 1)).sum() for number, value in enumerate(outputs.values())]


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_every_variant_is_tried() -> None:
    assert {component.name for component in VARIANTS.values()} == set(SHARINGS)
    assert set(SHARED) | UNSHARED == set(VARIANTS)


@pytest.mark.parametrize("name", SHARINGS)
@given(names, st.integers(2, 6))
@settings(deadline=None, max_examples=30)
def test_every_block_has_every_task_in_order(name: str, tasks: list[str], blocks: int) -> None:
    plan = sharing_for(name, tasks).plan(tasks, blocks)
    assert plan.blocks == blocks
    assert [len(starts) for starts in plan.starts] == [len(groups) for groups in plan.groups]
    for groups in (*plan.groups, *plan.starts):
        assert {task for group in groups for task in group} == set(tasks)
        assert all(list(group) == sorted(group, key=tasks.index) for group in groups)
    for groups in plan.groups if plan.tree else ():
        assert sum(map(len, groups)) == len(tasks)
        firsts = [tasks.index(group[0]) for group in groups]
        assert firsts == sorted(firsts)


@pytest.mark.parametrize("name", SHARINGS)
def test_plan_depends_on_its_arguments_alone_and_travels(name: str) -> None:
    sharing = pickle.loads(pickle.dumps(sharing_for(name, "abc")))  # noqa: S301
    plan = sharing.plan(["a", "b", "c"], 4)
    assert plan == sharing_for(name, "abc").plan(["a", "b", "c"], 4)
    assert pickle.loads(pickle.dumps(plan)) == plan  # noqa: S301


@pytest.mark.parametrize("name", SHARINGS)
def test_one_task_has_one_group_everywhere(name: str) -> None:
    assert sharing_for(name, "a").plan(["a"], 3) == SharingPlan.separate(["a"], 3)


@pytest.mark.parametrize("name", SHARINGS)
def test_one_task_alone_is_the_single_task_model(name: str) -> None:
    sharing, alone = sharing_for(name, "a"), single(TASKS[0], 1)
    model = MultiTaskModel(BACKBONE, SHAPE, TASKS[:1], sharing.plan(["a"], DEPTH), ["x"], sharing.module_factory)
    model.load_state_dict(fuse({"a": alone.state_dict()}, BASE, model, Mean()))
    assert torch.equal(model(batch(3))["a"], alone(batch(3))["a"])
    assert not model.has_representation
    assert len(model.shared_parameters()) == len(list(model.blocks.parameters()))


@over_variants
def test_outputs_are_finite_and_of_the_tasks_form(variant: str) -> None:
    model = fused(variant)
    for sizes in ((4, 3), (0, 5), (1, 0), (0, 0), None):
        x, y = sizes or (6, 6)
        outputs = model(batch(x + y if sizes else 6), sizes)
        assert {name: tuple(value.shape) for name, value in outputs.items()} == {"a": (x, 3), "b": (y,), "c": (x,)}
        assert all(value.isfinite().all() for value in outputs.values())


@over_variants
@pytest.mark.parametrize("tasks", [TASKS, TASKS[:2]], ids=["three tasks", "a data set per task"])
def test_a_pass_can_begin_at_every_entrance_with_the_same_bits(variant: str, tasks: list[Task]) -> None:
    if len(tasks) == 2 and "groups" in VARIANTS[variant].params:
        return
    model, sizes = fused(variant, tasks), (4, 3)
    context = ForwardContext(ranks=1, global_rows=sizes)
    outputs = model(batch(7), sizes, context)
    torch.autograd.backward(total(outputs))
    whole = gradients(model)
    for start_block in range(1, model.coupling.skippable_blocks + 1):
        with torch.no_grad():
            begun = model.run_prefix(batch(7), sizes, start_block)
        model.zero_grad(set_to_none=True)
        again = ForwardContext(ranks=1, global_rows=sizes)
        ours = model(begun, sizes, again, start_block)
        assert all(torch.equal(ours[task], outputs[task]) for task in outputs)
        assert {task: len(way) for task, way in again.boundaries.items()} == {
            task: len(way) for task, way in context.boundaries.items()
        }
        torch.autograd.backward(total(ours))
        for name, grad in gradients(model).items():
            below = name.startswith("blocks.") and int(name.split(".")[1]) < start_block
            assert grad is None if below else same_gradient(grad, whole[name])
        with pytest.raises(ValueError, match="sizes must be the rows"):
            model(begun, None, None, start_block)


def same_gradient(ours: Tensor | None, theirs: Tensor | None) -> bool:
    return theirs is None if ours is None else theirs is not None and torch.equal(ours, theirs)


@over_variants
def test_every_task_sees_the_rows_of_its_own_data_set(variant: str) -> None:
    model = fused(variant)
    together, everything = model(batch(7), (4, 3)), model(batch(7))
    for task, rows in (("a", slice(0, 4)), ("b", slice(4, 7)), ("c", slice(0, 4))):
        torch.testing.assert_close(together[task], everything[task][rows])


@over_variants
def test_the_same_seed_gives_the_same_model_and_leaves_the_global_random_state(variant: str) -> None:
    torch.manual_seed(0)
    models = [made(variant)]
    after = torch.random.get_rng_state()
    torch.manual_seed(0)
    models.append(made(variant))
    assert torch.equal(torch.random.get_rng_state(), after)
    models[1].initialise(4)
    models[1].initialise(3)
    assert torch.equal(torch.random.get_rng_state(), after)
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert torch.equal(models[0](batch(5))["a"], models[1](batch(5))["a"])


@over_variants
def test_state_travels_through_a_file_and_a_copy_learns_alone(variant: str, tmp_path: Path) -> None:
    model = fused(variant)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = made(variant, seed=8)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    for name, value in model(batch(5), (3, 2)).items():
        assert torch.equal(value, other(batch(5), (3, 2))[name])
        assert not torch.equal(value, twin(batch(5), (3, 2))[name])


@over_variants
def test_fusion_of_equal_models_computes_what_they_do(variant: str) -> None:
    model = fused(variant, alike=True)
    for task, output in zip(TASKS, model(batch(6)).values(), strict=True):
        torch.testing.assert_close(output, single(task, 0)(batch(6))[task.name], rtol=1e-5, atol=1e-6)


@over_variants
def test_order_of_tasks_does_not_show(variant: str) -> None:
    straight, turned = fused(variant), fused(variant, [TASKS[2], TASKS[0], TASKS[1]])
    theirs = turned(batch(7), (4, 3))
    assert list(theirs) == ["c", "a", "b"]
    for task, output in straight(batch(7), (4, 3)).items():
        torch.testing.assert_close(theirs[task], output)


@over_variants
def test_shared_parameters_are_those_that_tasks_have_in_common(variant: str) -> None:
    model = made(variant)
    known = {id(parameter) for parameter in model.shared_parameters()}
    assert len(known) == len(model.shared_parameters())
    shared = {".".join(name.split(".")[:3]) for name, each in model.named_parameters() if id(each) in known}
    assert shared == SHARED.get(variant, set())


@over_variants
def test_a_parameter_that_is_not_shared_hears_of_one_task_or_of_none(variant: str) -> None:
    model = fused(variant)
    known = {id(parameter) for parameter in model.shared_parameters()}
    heard: dict[str, list[str]] = {}
    losses = dict(zip(NAMES, total(model(batch(7), (4, 3))), strict=True))
    for task, loss in losses.items():
        found = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
        for (name, parameter), grad in zip(model.named_parameters(), found, strict=True):
            parts = [grad] if grad is None or not name.startswith("coupling.") else list(grad)
            for number, part in enumerate(parts):
                if id(parameter) not in known and part is not None and part.any():
                    heard.setdefault(f"{name}[{number}]", []).append(task)
    assert all(len(tasks) == 1 for tasks in heard.values()), heard


@over_variants
@pytest.mark.parametrize("sizes", [(4, 3), (5, 0)])
def test_every_parameter_gets_a_gradient_in_training_even_from_an_empty_data_set(
    variant: str, sizes: tuple[int, int]
) -> None:
    model = fused(variant)
    context = ForwardContext(global_rows=sizes)
    torch.autograd.backward([*total(model(batch(sum(sizes)), sizes, context)), *context.penalties])
    missing = [name for name, grad in gradients(model).items() if grad is None or not grad.isfinite().all()]
    assert missing == []


@over_variants
def test_boundaries_are_noted_where_there_is_a_common_representation(variant: str) -> None:
    model, context = fused(variant), ForwardContext(cut=True, global_rows=(4, 3))
    model(batch(7), (4, 3), context)
    assert model.has_representation == (variant not in WITHOUT_REPRESENTATION)
    assert bool(context.boundaries) == model.has_representation
    assert set(context.leaves) == set(context.boundaries)


@over_boundaries
@pytest.mark.parametrize("sizes", [(4, 3), (0, 4), None])
def test_backward_in_two_parts_is_the_whole_backward(variant: str, sizes: tuple[int, int] | None) -> None:
    if sizes is None and variant.startswith("adversarial"):
        sizes = (6, 0)
    rows = 6 if sizes is None else sum(sizes)
    whole = fused(variant)
    parted = copy.deepcopy(whole)
    plain, cut = ForwardContext(global_rows=sizes or ()), ForwardContext(cut=True, global_rows=sizes or ())
    expected, outputs = whole(batch(rows), sizes, plain), parted(batch(rows), sizes, cut)
    assert all(torch.equal(value, outputs[name]) for name, value in expected.items())
    torch.autograd.backward([*total(expected), *plain.penalties])
    torch.autograd.backward(total(outputs), retain_graph=bool(cut.penalties))
    roots, seeds = [*cut.penalties], [torch.ones(()) for _ in cut.penalties]
    for task, leaves in cut.leaves.items():
        for tensor, leaf in zip(cut.boundaries[task][-1], leaves, strict=True):
            if leaf.grad is not None:
                roots.append(tensor)
                seeds.append(leaf.grad)
    torch.autograd.backward(roots, seeds)
    theirs = gradients(parted)
    for name, grad in gradients(whole).items():
        torch.testing.assert_close(theirs[name], grad, msg=name)


@over_variants
@pytest.mark.parametrize("cut", [False, True])
def test_half_precision_passes_and_leaves_gradients_in_full(variant: str, cut: bool) -> None:
    model, context = fused(variant), ForwardContext(cut=cut, global_rows=(4, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(batch(7), (4, 3), context)
    torch.autograd.backward([*total(outputs), *context.penalties])
    assert all(penalty.dtype == torch.float32 for penalty in context.penalties)
    found = [grad for grad in gradients(model).values() if grad is not None]
    assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in found)
