"""What every alignment promises, over the family's dict, on models of several sharings."""

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from mtl_search.alignment import ALIGNMENTS
from mtl_search.alignment.base import Alignment
from mtl_search.data.task import Task
from mtl_search.errors import ConfigError
from mtl_search.fusion.apply import fuse
from mtl_search.fusion.mean import Mean
from mtl_search.models.backbones.base import Backbone
from mtl_search.models.backbones.mlp import Mlp
from mtl_search.models.backbones.resnet import ResNet
from mtl_search.models.forward_context import ForwardContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.models.sharing import SHARINGS
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.recipe import Component
from mtl_search.transfer.bases import BASES
from mtl_search.variants.building import build

MLP, IMAGES = Mlp(width=5, depth=3), ResNet(width=4, stages=2)
HOMES = {"a": "x", "b": "y", "c": "x", "d": "z"}
SIZES = (4, 3, 2)
DONE = 0.4  # at the very start the reversal of gradients is 0
SHARED: dict[str, tuple[Component, set[str]]] = {  # sharings, and the copies before their last common representation
    "hard": (Component("hard"), {"blocks.0.0", "blocks.1.0", "blocks.2.0"}),
    "hard 1": (Component("hard", {"depth": 1}), {"blocks.0.0"}),
    "trunk": (Component("tree", {"groups": [["a", "c"], ["b"], ["d"]]}), {"blocks.0.0"}),
    "branch": (
        Component("tree", {"groups": [["a", "b"], ["c"], ["d"]], "until": 2}),
        {"blocks.0.0", "blocks.1.0"},
    ),
    "experts": (Component("experts", {"count": 2}), {"blocks.0.0", "blocks.1.0", "blocks.2.0", "blocks.2.1"}),
    "adapters": (Component("adapters", {"depth": 2}), {"blocks.0.0", "blocks.1.0"}),
    "cross_stitch": (
        Component("cross_stitch"),
        {f"blocks.{block}.{task}" for block in range(3) for task in range(4)}
        | {"coupling.stitches.0", "coupling.stitches.1"},
    ),
    "adversarial": (Component("adversarial"), {"blocks.0.0", "blocks.1.0", "blocks.2.0"}),
}
ALIGNING = [name for name in ALIGNMENTS if name != "none"]
over_alignments = pytest.mark.parametrize("name", ALIGNING)
over_sharings = pytest.mark.parametrize("sharing", SHARED)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # these models are too small for more
    yield
    torch.set_num_threads(before)


def tasks_of(task_datasets: dict[str, str] = HOMES) -> list[Task]:
    return [
        Task(name, "regression", home, (), 0, 1, "mse", Component("rmse"), "t") for name, home in task_datasets.items()
    ]


def model_of(
    sharing: Component,
    alignment: Component | None,
    task_datasets: dict[str, str] = HOMES,
    backbone: Backbone = MLP,
    shape: tuple[int, ...] = (4,),
) -> MultiTaskModel:
    torch.manual_seed(0)
    variant = build(SHARINGS, sharing)
    plan = variant.plan(list(task_datasets), len(backbone.blocks(shape)))
    align = None if alignment is None else build(ALIGNMENTS, alignment).align
    datasets = sorted(set(task_datasets.values()))
    model = MultiTaskModel(backbone, shape, tasks_of(task_datasets), plan, datasets, variant.module_factory, align)
    model.initialise(1)
    return model


def made(name: str, sharing: str = "hard", **params: Any) -> MultiTaskModel:
    return model_of(SHARED[sharing][0], Component(name, params))


def batch(rows: int = sum(SIZES)) -> Tensor:
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(rows))


def penalties(model: MultiTaskModel, x: Tensor, sizes: tuple[int, ...] = SIZES, **facts: Any) -> list[Tensor]:
    """Those of the alignment alone, without what the sharing adds."""
    both = []
    for align in (True, False):
        context = ForwardContext(**{"global_rows": sizes, "progress": DONE, **facts})
        other = copy.copy(model)
        other._modules = {**model._modules} if align else {**model._modules, "alignment": None}
        other(x, sizes, context)
        both.append(context.penalties)
    return both[0][len(both[1]) :]


def total(model: MultiTaskModel, x: Tensor, sizes: tuple[int, ...] = SIZES, **facts: Any) -> Tensor:
    return torch.stack(penalties(model, x, sizes, **facts)).sum()


def touched(model: MultiTaskModel, value: Tensor) -> set[str]:
    """The copies and other parts whose parameters get a gradient."""
    grads = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    named = zip(model.named_parameters(), grads, strict=True)
    return {".".join(name.split(".")[:3]) for (name, _), grad in named if grad is not None and grad.any()}


def test_no_alignment_comes_first_and_leaves_a_model_as_it_is() -> None:
    assert next(iter(ALIGNMENTS)) == "none"
    model = made("none")
    assert model.alignment is None
    assert penalties(model, batch()) == []
    build(ALIGNMENTS, Component("none")).check(tasks_of({"a": "x"}))


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_it_travels(name: str) -> None:
    alignment = pickle.loads(pickle.dumps(build(ALIGNMENTS, Component(name))))  # noqa: S301
    assert isinstance(alignment, Alignment)
    assert vars(alignment) == vars(ALIGNMENTS[name]())


@over_alignments
def test_two_data_sets_are_needed(name: str) -> None:
    alignment = build(ALIGNMENTS, Component(name))
    with pytest.raises(ConfigError, match="alignment: needs tasks on two data sets or more"):
        alignment.check(tasks_of({"a": "x", "b": "x"}))
    alignment.check(tasks_of({"a": "x", "b": "y"}))


@over_alignments
@pytest.mark.parametrize(
    ("sharing", "params"),
    [("none", {}), ("soft", {}), ("adapters", {}), ("hard", {"depth": 0}), ("tree", {"groups": [["a", "c"], ["b"]]})],
)
def test_a_representation_in_common_is_needed(name: str, sharing: str, params: dict[str, Any]) -> None:
    task_datasets = {"a": "x", "b": "y", "c": "x"}
    if sharing == "tree":  # the trunk is one, so this goes
        model = model_of(Component(sharing, params), Component(name), task_datasets)
        assert [alignment_point.tasks for alignment_point in model.alignment_points()] == [("a", "b", "c")]
        return
    with pytest.raises(ConfigError, match="tasks of different data sets have no representation in common"):
        model_of(Component(sharing, params), Component(name), task_datasets)


@over_alignments
def test_training_needs_the_rows_of_each_data_set(name: str) -> None:
    with pytest.raises(ValueError, match="training needs the rows of each data set"):
        made(name)(batch(), None, ForwardContext())


@over_alignments
@over_sharings
def test_what_is_before_the_last_common_representation_is_drawn_together_and_nothing_else(
    name: str, sharing: str
) -> None:
    model = made(name, sharing)
    value = total(model, batch())
    assert value.dtype == torch.float32
    assert value > 0
    found = touched(model, value)
    assert {part for part in found if not part.startswith("alignment.")} == SHARED[sharing][1]
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(learned) == len(list(model.parameters()))


@over_alignments
@over_sharings
def test_outputs_and_everything_else_are_those_of_the_model_without(name: str, sharing: str) -> None:
    plain = model_of(SHARED[sharing][0], None)
    drawn_after_plain = torch.rand(3)
    model = made(name, sharing)
    assert torch.equal(torch.rand(3), drawn_after_plain)
    state = model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in plain.state_dict().items())
    assert all(key.startswith("alignment.") for key in state.keys() - plain.state_dict().keys())
    passings = [ForwardContext(global_rows=SIZES, progress=DONE) for _ in range(2)]
    outputs, theirs = (net(batch(), SIZES, context) for net, context in zip((model, plain), passings, strict=True))
    assert all(torch.equal(value, theirs[task]) for task, value in outputs.items())
    assert all(torch.equal(value, model(batch(), SIZES)[task]) for task, value in outputs.items())


@over_alignments
def test_a_seed_gives_the_same_parameters_and_another_seed_others(name: str) -> None:
    model, twin = made(name), made(name)
    assert model.alignment is not None
    twin.initialise(2)
    for (key, value), other in zip(model.alignment.state_dict().items(), twin.alignment.parameters(), strict=True):
        assert not torch.equal(value, other), key
    twin.initialise(1)
    assert all(torch.equal(value, twin.state_dict()[key]) for key, value in model.state_dict().items())


@over_alignments
def test_state_goes_through_a_file(name: str) -> None:
    model, other = made(name), made(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(total(other, batch()), total(model, batch()))


@over_alignments
def test_fused_models_start_with_what_the_alignment_drew(name: str) -> None:
    base = BASES["random"]().state(lambda: MLP.blocks((4,)), seed=9)
    singles = {}
    for task in tasks_of():
        alone = MultiTaskModel(MLP, (4,), [task], SharingPlan.separate([task.name], 3), [task.dataset])
        alone.load_base(base)
        singles[task.name] = alone.state_dict()
    model = made(name)
    before = {key: value.clone() for key, value in model.alignment.state_dict().items()}
    model.load_state_dict(fuse(singles, base, model, Mean()))
    assert all(torch.equal(value, before[key]) for key, value in model.alignment.state_dict().items())


@over_alignments
@over_sharings
def test_order_of_rows_does_not_show(name: str, sharing: str) -> None:
    model, x = made(name, sharing), batch()
    shuffled = torch.cat([part.flip(0) for part in x.split(SIZES)])
    torch.testing.assert_close(total(model, shuffled), total(model, x))


@over_alignments
@pytest.mark.parametrize("sizes", [(4, 0, 3), (0, 0, 5), (0, 0, 0)])
def test_data_sets_without_rows_are_passed_over(name: str, sizes: tuple[int, ...]) -> None:
    model = made(name)
    found = penalties(model, batch(sum(sizes)), sizes)
    assert all(penalty.isfinite() for penalty in found)
    if found:
        grads = torch.autograd.grad(torch.stack(found).sum(), list(model.parameters()), allow_unused=True)
        assert all(grad is None or grad.isfinite().all() for grad in grads)


@over_alignments
def test_half_precision_passes_are_aligned_in_full(name: str) -> None:
    model = made(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = total(model, batch())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, total(model, batch()), rtol=0.1, atol=0.01)


@over_alignments
@over_sharings
def test_a_pass_that_is_cut_is_aligned_alike(name: str, sharing: str) -> None:
    model = made(name, sharing)
    whole, cut = (total(model, batch(), cut=cut) for cut in (False, True))
    assert torch.equal(whole, cut)
    assert touched(model, whole) == touched(model, cut)


@over_alignments
@pytest.mark.parametrize("sharing", ["hard", "branch", "experts"])
@pytest.mark.parametrize("first", [(2, 2, 1), (4, 3, 0), (0, 3, 2), (0, 0, 0)])
def test_two_ranks_are_aligned_as_one(name: str, sharing: str, first: tuple[int, ...]) -> None:
    model, x = made(name, sharing), batch()
    parts = x.split(SIZES)
    rest = tuple(size - mine for size, mine in zip(SIZES, first, strict=True))
    rows = [
        torch.cat([part[:mine] for part, mine in zip(parts, first, strict=True)]),
        torch.cat([part[mine:] for part, mine in zip(parts, first, strict=True)]),
    ]
    sent: list[list[Tensor]] = [[], []]

    def of_rank(rank: int, hear: bool) -> Tensor:
        turn = iter(sent[1 - rank]) if hear else None

        def add(values: Tensor) -> Tensor:
            if turn is None:
                sent[rank].append(values.clone())
                return values
            return values.add_(next(turn))

        facts = {"ranks": 2, "sum": add, "global_rows": SIZES, "starts": [(0, 0, 0), first][rank]}
        context = ForwardContext(progress=DONE, **facts)  # type: ignore[arg-type]
        model(rows[rank], [first, rest][rank], context)
        return torch.stack(context.penalties).sum()

    for rank in (0, 1):  # hear what each rank would send, then let each have the other's
        of_rank(rank, hear=False)
    both = of_rank(0, hear=True) + of_rank(1, hear=True)
    whole = total(model, x)
    torch.testing.assert_close(both, whole)
    learned = list(model.parameters())
    grads = [torch.autograd.grad(value, learned, allow_unused=True) for value in (both, whole)]
    for (key, _), ours, theirs in zip(model.named_parameters(), *grads, strict=True):
        assert (ours is None) == (theirs is None), key
        if ours is not None:
            torch.testing.assert_close(ours, theirs, msg=key)


@over_alignments
def test_strength_scales_what_the_shared_layers_hear(name: str) -> None:
    grads = []
    for strength in (1.0, 3.0):
        model = made(name, strength=strength)
        grads.append(torch.autograd.grad(total(model, batch()), list(model.blocks.parameters())))
    for weak, strong in zip(*grads, strict=True):
        torch.testing.assert_close(strong, 3 * weak, rtol=1e-4, atol=1e-7)


@over_alignments
def test_images_are_aligned_by_channels(name: str) -> None:
    task_datasets = {"a": "x", "b": "y"}
    model = model_of(Component("hard", {"depth": 1}), Component(name), task_datasets, IMAGES, (3, 8, 8))
    (alignment_point,) = model.alignment_points()
    (channels, height, width) = model.blocks[0][0](torch.zeros(2, 3, 8, 8)).shape[1:]
    assert height * width > 1
    assert alignment_point.rows.shape[1] == channels
    value = total(model, torch.randn(5, 3, 8, 8), (3, 2))
    assert touched(model, value) - {"alignment"} >= {"blocks.0.0"}


def test_every_data_set_is_aligned_where_its_task_last_meets_another() -> None:
    two = {"a": "x", "b": "y", "c": "x", "d": "y"}
    tree = Component("tree", {"groups": [["a", "b"], ["c", "d"]], "until": 2})
    alignment_points = model_of(tree, None, two).alignment_points()
    assert [(alignment_point.tasks, alignment_point.datasets) for alignment_point in alignment_points] == [
        (("a", "b"), (0, 1)),
        (("c", "d"), (0, 1)),
    ]
    alignment_points = model_of(
        SHARED["branch"][0], None
    ).alignment_points()  # c and d have no one of another data set in the branch
    assert [(alignment_point.tasks, alignment_point.datasets) for alignment_point in alignment_points] == [
        (("a", "b"), (0, 1)),
        (("a", "b", "c", "d"), (0, 1, 2)),
    ]
    assert model_of(Component("hard"), None, {"a": "x", "b": "x"}).alignment_points() == []
