"""The mathematics of each sharing, against formulas written out."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mtl_search.data.task import Task
from mtl_search.errors import ConfigError
from mtl_search.fusion.apply import fuse
from mtl_search.fusion.mean import Mean
from mtl_search.models.backbones.base import Backbone
from mtl_search.models.backbones.mlp import Mlp
from mtl_search.models.backbones.python_backbone import PythonBackbone
from mtl_search.models.backbones.resnet import ResNet
from mtl_search.models.forward_context import ForwardContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.models.sharing.adapters import Adapters
from mtl_search.models.sharing.adversarial import Adversarial, squared_sum
from mtl_search.models.sharing.base import Sharing
from mtl_search.models.sharing.cross_stitch import CrossStitch
from mtl_search.models.sharing.experts import Experts
from mtl_search.models.sharing.hard import Hard
from mtl_search.models.sharing.none import NoSharing
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.models.sharing.soft import Soft, l2_penalty, trace_penalty
from mtl_search.models.sharing.tree import Tree
from mtl_search.recipe import Component
from mtl_search.transfer.norms import recalibrate

MLP, IMAGES = Mlp(width=5, depth=3), ResNet(width=4, stages=2)
HOMES = {"a": "x", "b": "y", "c": "x"}
SIZES = (4, 3)


def sequences(input_shape: tuple[int, ...]) -> list[nn.Module]:
    return [nn.Linear(input_shape[1], 5), nn.Sequential(nn.Flatten(), nn.Linear(5 * input_shape[0], 4))]


def tasks_of(task_datasets: dict[str, str] = HOMES) -> list[Task]:
    return [
        Task(name, "regression", home, (), 0, 1, "mse", Component("rmse"), "t") for name, home in task_datasets.items()
    ]


def model_of(
    sharing: Sharing, backbone: Backbone = MLP, shape: tuple[int, ...] = (4,), task_datasets: dict[str, str] = HOMES
) -> MultiTaskModel:
    torch.manual_seed(0)
    plan = sharing.plan(list(task_datasets), len(backbone.blocks(shape)))
    datasets = sorted(set(task_datasets.values()))
    model = MultiTaskModel(backbone, shape, tasks_of(task_datasets), plan, datasets, sharing.module_factory)
    model.initialise(1)
    return model


@cache
def singles_of(backbone: Backbone = MLP, shape: tuple[int, ...] = (4,)) -> dict[str, MultiTaskModel]:
    found = {}
    for seed, (name, home) in enumerate(HOMES.items()):
        model = model_of(NoSharing(), backbone, shape, {name: home})
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
        found[name] = model
    return found


def fused(sharing: Sharing, backbone: Backbone = MLP, shape: tuple[int, ...] = (4,)) -> MultiTaskModel:
    model = model_of(sharing, backbone, shape)
    states = {name: single.state_dict() for name, single in singles_of(backbone, shape).items()}
    base = nn.ModuleList(backbone.blocks(shape)).state_dict()
    model.load_state_dict(fuse(states, base, model, Mean()))
    return model


def scatter(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)


def same_outputs(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-5, atol=1e-6)


# none and tree


def test_none_gives_exactly_what_the_single_task_models_do() -> None:
    model, x = fused(NoSharing()), torch.randn(6, 4)
    for name, single in singles_of().items():
        assert torch.equal(model(x)[name], single(x)[name])


def test_tree_shares_a_trunk_then_branches_then_nothing() -> None:
    plan = Tree([["c", "a"], ["b"]], depth=1, until=3).plan("abc", 4)
    assert str(plan) == "a+b+c > a+c | b > a+c | b > a | b | c"
    assert str(Tree([["c", "a"], ["b"]], depth=2).plan("abc", 3)) == "a+b+c > a+b+c > a+c | b"


def test_tree_without_measured_groups_makes_no_plan_for_three_tasks() -> None:
    with pytest.raises(ConfigError, match=r"sharing\.tree\.groups: auto is resolved from measured task affinity"):
        Tree().plan("abc", 3)
    assert str(Tree().plan("ab", 2)) == "a+b > a+b"
    assert Tree().plan("a", 2) == SharingPlan.separate("a", 2)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Tree([["a", "b"], ["b"]]), "groups: must have every task in one group, got 'b'"),
        (lambda: Tree([["a"], []]), "groups: must be groups of one task or more"),
        (lambda: Tree([]), "groups: must be groups of one task or more"),
        (lambda: Tree([["a", "b"]]).plan("abc", 3), "groups: must have every task in a group, got 'c'"),
        (lambda: Tree([["a", "b", "c", "d"]]).plan("abc", 3), "groups: must name tasks, got 'd'"),
        (lambda: Tree([["a", "b", "c"]], depth=3).plan("abc", 3), "depth: must be less than the backbone's 3 blocks"),
        (lambda: Tree([["a", "b", "c"]], until=1).plan("abc", 3), "until: must be more than depth, 1, and at most"),
        (lambda: Tree([["a", "b", "c"]], until=4).plan("abc", 3), "until: must be more than depth, 1, and at most"),
        (lambda: Tree([["a", "b", "c"]]).plan("abc", 1), "needs a backbone of two blocks"),
        (lambda: Soft(blocks=4).plan("abc", 3), r"soft\.blocks: must be at most the backbone's 3 blocks, got 4"),
        (lambda: Experts(depth=3).plan("abc", 3), r"experts\.depth: must be less than the backbone's 3 blocks"),
        (lambda: Adapters(depth=3).plan("abc", 3), r"adapters\.depth: must be less than the backbone's 3 blocks"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(make: Callable[[], object], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        make()


def test_every_boundary_on_a_tasks_way_is_noted_from_shallow_to_deep() -> None:
    model, context = model_of(Tree([["a", "c"], ["b"]], until=2)), ForwardContext(cut=True)
    model(torch.randn(7, 4), SIZES, context)
    ways = context.boundaries
    assert [len(ways[task]) for task in "abc"] == [2, 1, 2]
    assert ways["a"][0] is ways["b"][0]
    assert ways["a"][0] is ways["c"][0]
    assert ways["a"][1] is ways["c"][1]
    assert [len(tensors[0]) for tensors in ways["a"]] == [7, 4]
    # The leaf stands for the whole common tensor; the rows are taken behind it.
    assert len(context.leaves["b"][0]) == 7
    assert len(context.leaves["a"][0]) == 4


def test_tasks_that_share_no_block_have_no_boundary() -> None:
    plan = SharingPlan(((("a", "c"), ("b",)),) * 3)
    model, context = MultiTaskModel(MLP, (4,), tasks_of(), plan, ["x", "y"]), ForwardContext(cut=True)
    model(torch.randn(7, 4), SIZES, context)
    assert model.has_representation
    assert set(context.boundaries) == {"a", "c"}
    assert not model_of(Hard(0)).has_representation


# soft


def stacked(model: MultiTaskModel, blocks: int) -> list[list[Tensor]]:
    """For each parameter of the first blocks, its copies."""
    copies = [[list(copy.parameters()) for copy in block.children()] for block in list(model.blocks)[:blocks]]
    return [list(values) for block in copies for values in zip(*block, strict=True)]


@pytest.mark.parametrize("blocks", [None, 1])
def test_l2_coupling_is_the_squared_distance_to_the_mean(blocks: int | None) -> None:
    model, context = model_of(Soft(0.3, "l2", blocks)), ForwardContext(ranks=4)
    scatter(model)
    model(torch.randn(7, 4), SIZES, context)
    expected = 0.0
    for values in stacked(model, blocks or 3):
        mean = sum(values) / 3
        expected += sum((value - mean).square().sum().item() for value in values)
    (penalty,) = context.penalties
    assert penalty.item() == pytest.approx(0.3 * expected / 4, rel=1e-5)


def test_l2_coupling_draws_each_copy_to_the_mean() -> None:
    values = torch.randn(4, 3, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(l2_penalty([values]), values)
    torch.testing.assert_close(gradient, 2 * (values - values.mean(0)).detach())


def test_trace_coupling_is_the_sum_of_singular_values() -> None:
    values = [torch.randn(4, 3, 5), torch.randn(4, 7), torch.randn(4, 1)]
    expected = sum(torch.linalg.svdvals(value.flatten(1)).sum() for value in values)
    torch.testing.assert_close(trace_penalty(values), expected, rtol=1e-3, atol=1e-3)


def test_trace_coupling_has_a_finite_gradient_where_all_copies_are_equal() -> None:
    for values in (torch.randn(3, 5)[:1].repeat(4, 2), torch.zeros(4, 6), torch.eye(4)):
        values.requires_grad_()
        (gradient,) = torch.autograd.grad(trace_penalty([values]), values)
        assert gradient.isfinite().all()
        assert gradient.norm() <= 2.01  # that of a matrix with four singular values


def test_soft_coupling_leaves_outputs_and_evaluation_alone() -> None:
    model, x = fused(Soft(1.0)), torch.randn(6, 4)
    assert all(torch.equal(value, fused(NoSharing())(x)[name]) for name, value in model(x).items())


# experts


def test_gate_of_one_expert_gives_that_experts_features() -> None:
    model, x = fused(Experts(3, depth=0)), torch.randn(6, 4)
    with torch.no_grad():
        model.coupling.gates.zero_()
        model.coupling.biases.copy_(torch.eye(3) * 1000)
    for name, single in singles_of().items():
        torch.testing.assert_close(model(x)[name], single(x)[name])


def test_features_are_the_gates_mixture_of_shared_and_private_experts() -> None:
    model, x = fused(Experts(2, depth=1, private=1)), torch.randn(5, 4)
    scatter(model.coupling)
    blocks = [list(block.children()) for block in model.blocks]
    h = blocks[0][0](x)
    outputs = [blocks[2][expert](blocks[1][expert](h)) for expert in range(5)]
    for number, name in enumerate("abc"):
        own = [*outputs[:2], outputs[2 + number]]
        gate = functional.linear(h, model.coupling.gates[number], model.coupling.biases[number]).softmax(1)
        features = sum(gate[:, e : e + 1] * own[e] for e in range(3))
        torch.testing.assert_close(model(x)[name], model.heads[name](features))


def test_experts_start_from_their_tasks_and_gates_near_them() -> None:
    few = Experts(2, depth=2).plan("abc", 3)
    assert few.starts == ((("a", "b", "c"),), (("a", "b", "c"),), (("a", "c"), ("b",)))
    many = Experts(4, depth=2, private=1).plan("abc", 3)
    assert many.starts[2] == (("a",), ("b",), ("c",), ("a",), ("a",), ("b",), ("c",))
    biases = model_of(Experts(4, depth=2, private=1)).coupling.biases.softmax(1)
    own = torch.tensor([[1, 0, 0, 1, 1], [0, 1, 0, 0, 1], [0, 0, 1, 0, 1]])
    torch.testing.assert_close((biases * own).sum(1), torch.full((3,), 0.9))


def test_experts_that_start_alike_grow_apart() -> None:
    model = fused(Experts(6, depth=2))
    first, second = (model.get_parameter(f"blocks.2.{expert}.linear.weight") for expert in (0, 3))
    assert torch.equal(first, second)
    sum(value.square().sum() for value in model(torch.randn(7, 4), SIZES).values()).backward()
    assert not torch.allclose(first.grad, second.grad, rtol=1e-2)


@pytest.mark.parametrize(
    ("backbone", "shape", "width"), [(IMAGES, (1, 6, 6), 4), (PythonBackbone(f"{__name__}:sequences"), (7, 3), 5)]
)
def test_gates_read_the_mean_over_pixels_or_positions(backbone: Backbone, shape: tuple[int, ...], width: int) -> None:
    model = model_of(Experts(2, depth=1), backbone, shape)
    assert model.coupling.gates.shape == (3, 2, width)
    assert model(torch.randn(4, *shape), (0, 4))["b"].shape == (4,)


# adapters


@pytest.mark.parametrize(("backbone", "shape"), [(MLP, (4,)), (IMAGES, (1, 6, 6))])
def test_adapters_of_full_rank_run_exactly_the_single_task_weights(backbone: Backbone, shape: tuple[int, ...]) -> None:
    model, singles = fused(Adapters(rank=1000), backbone, shape), singles_of(backbone, shape)
    mixed = copy.deepcopy(singles)
    for name, single in singles.items():
        # What is no weight of a linear layer or convolution stays that of the trunk.
        theirs = single.state_dict()
        adapted = {f"blocks.{block}.0.{layer}" for block, layer in model.coupling._layers}
        state = {key: theirs[key] if key in adapted else value for key, value in model.state_dict().items()}
        mixed[name].load_state_dict({key: state[key] for key in theirs})
    x = torch.randn(5, *shape)
    same_outputs(model(x), {name: single(x)[name] for name, single in mixed.items()})


def test_difference_is_the_best_approximation_of_its_rank() -> None:
    model, singles = fused(Adapters(rank=2)), singles_of()
    trunk = model.get_parameter("blocks.1.0.linear.weight")
    for number, single in enumerate(singles.values()):
        gap = single.get_parameter("blocks.1.0.linear.weight") - trunk
        left = gap - model.coupling.left[1][number] @ model.coupling.right[1][number]
        torch.testing.assert_close(left.norm(), torch.linalg.svdvals(gap)[2:].norm())


@pytest.mark.parametrize("start", ["zero", "difference"])
def test_adapters_of_equal_models_are_zero_and_learn(start: Any) -> None:
    model = model_of(Adapters(2, start=start))
    single = singles_of()["a"].state_dict()
    heads = {name: {key.replace("heads.a", f"heads.{name}"): each for key, each in single.items()} for name in "abc"}
    base = nn.ModuleList(MLP.blocks((4,))).state_dict()
    model.load_state_dict(fuse(heads, base, model, Mean()))
    assert all(not left.any() for left in model.coupling.left)
    sum(value.square().sum() for value in model(torch.randn(5, 4)).values()).backward()
    assert all(left.grad.any() for left in model.coupling.left)


def test_blocks_below_the_adapters_run_once_for_all_tasks() -> None:
    model = model_of(Adapters(depth=2))
    rows: list[int] = []
    for number in range(3):
        model.get_submodule(f"blocks.{number}.0").register_forward_hook(lambda m, i, o: rows.append(len(o)))
    model(torch.randn(7, 4), SIZES)
    assert rows == [7, 7, 4, 3, 4]
    assert len(model.coupling.left) == 1


def test_backbone_without_a_layer_to_adapt_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a linear or 2d convolution layer after the first 0 blocks"):
        model_of(Adapters(), PythonBackbone(f"{__name__}:without_layers"))


def without_layers(input_shape: tuple[int, ...]) -> list[nn.Module]:
    return [nn.LayerNorm(input_shape)]


# cross-stitch


def test_cross_stitch_without_mixing_is_no_sharing() -> None:
    model, x = fused(CrossStitch(own=1.0)), torch.randn(7, 4)
    same_outputs(model(x, SIZES), fused(NoSharing())(x, SIZES))


def test_cross_stitch_mixes_the_trunks_after_every_block() -> None:
    model, x = fused(CrossStitch(0.8)), torch.randn(5, 4)
    assert torch.allclose(model.coupling.stitches[0], torch.full((3, 3), 0.1) + 0.7 * torch.eye(3))
    scatter(model.coupling)
    inputs = [x] * 3
    for block, stitch in zip(model.blocks, model.coupling.stitches, strict=True):
        outputs = [trunk(h) for trunk, h in zip(block.children(), inputs, strict=True)]
        inputs = [sum(stitch[i, j] * outputs[j] for j in range(3)) for i in range(3)]
    same_outputs(model(x), {name: model.heads[name](h) for name, h in zip("abc", inputs, strict=True)})


# adversarial


def features_of(model: MultiTaskModel, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    outputs = [x] * 4
    for block in model.blocks:
        outputs = [trunk(h) for trunk, h in zip(block.children(), outputs, strict=True)]
    return outputs[0], outputs[1:]


def test_heads_see_shared_and_private_features() -> None:
    model, x = fused(Adversarial()), torch.randn(5, 4)
    shared, private = features_of(model, x)
    for name, own in zip("abc", private, strict=True):
        single = singles_of()[name].get_submodule(f"heads.{name}")
        torch.testing.assert_close(model(x)[name], single((shared + own) / 2))


def test_penalties_are_the_discriminators_cross_entropy_and_the_overlap_of_the_features() -> None:
    model, context = fused(Adversarial(0.7, 0.2)), ForwardContext(global_rows=SIZES)
    x = torch.randn(7, 4)
    model(x, SIZES, context)
    shared, private = features_of(model, x)
    guesses = functional.linear(shared, model.coupling.discriminator.weight, model.coupling.discriminator.bias)
    confusion, overlap = context.penalties
    torch.testing.assert_close(confusion, 0.7 * functional.cross_entropy(guesses, torch.tensor([0] * 4 + [1] * 3)))
    rows = [slice(0, 4), slice(4, 7), slice(0, 4)]
    expected = sum(
        (shared[own].T @ features[own] / len(shared[own])).square().sum()
        for own, features in zip(rows, private, strict=True)
    )
    torch.testing.assert_close(overlap, 0.2 * expected)


def test_discriminator_learns_and_the_shared_trunk_unlearns() -> None:
    model, context = fused(Adversarial(1.0, 0.0)), ForwardContext(global_rows=SIZES)
    x = torch.randn(7, 4)
    model(x, SIZES, context)
    context.penalties[0].backward()

    def confusion() -> float:
        again = ForwardContext(global_rows=SIZES)
        model(x, SIZES, again)
        return again.penalties[0].item()

    before = confusion()
    for part, better in ((model.coupling, True), (model.get_submodule("blocks.0.0"), False)):
        with torch.no_grad():
            for parameter in part.parameters():
                parameter.sub_(0.01 * parameter.grad)
        assert (confusion() < before) == better
        with torch.no_grad():
            for parameter in part.parameters():
                parameter.add_(0.01 * parameter.grad)


def test_squared_sum_over_ranks_has_the_value_and_the_gradient_of_one_process() -> None:
    parts = [torch.randn(3, 3, requires_grad=True) for _ in range(3)]
    whole = torch.stack(parts).sum(0).square().sum()
    expected = torch.autograd.grad(whole, parts)
    ranks = ForwardContext(ranks=3, sum=lambda values: torch.stack(parts).detach().sum(0))
    values = [squared_sum(part, ranks) for part in parts]
    torch.testing.assert_close(sum(values), whole)
    for value, part, gradient in zip(values, parts, expected, strict=True):
        torch.testing.assert_close(torch.autograd.grad(value, part)[0], gradient)


@pytest.mark.parametrize("sharing", [Adversarial(0.7, 0.4), Soft(0.3), Soft(0.3, "trace")])
def test_penalties_of_two_ranks_sum_up_to_those_of_one(sharing: Sharing) -> None:
    model = fused(sharing)
    x, y = torch.randn(4, 4), torch.randn(3, 4)
    shares = [(torch.cat([x[:3], y[:1]]), (3, 1)), (torch.cat([x[3:], y[1:]]), (1, 2))]
    sent: list[list[Tensor]] = [[], []]

    def penalties(rows: Tensor, sizes: tuple[int, int], ranks: int, add: Callable[[Tensor], Tensor]) -> Tensor:
        context = ForwardContext(ranks=ranks, sum=add, global_rows=SIZES)
        model(rows, sizes, context)
        return torch.stack(context.penalties).sum()

    for rank, share in enumerate(shares):  # hear what each rank would send ...
        penalties(*share, 2, lambda values, rank=rank: (sent[rank].append(values.clone()), values)[1])
    whole = penalties(torch.cat([x, y]), SIZES, 1, lambda values: values)
    both = [  # ... and let each have the other's
        penalties(*share, 2, lambda values, rank=rank: values.add_(sent[1 - rank][0]))
        for rank, share in enumerate(shares)
    ]
    torch.testing.assert_close(both[0] + both[1], whole)
    learned = [parameter for name, parameter in model.named_parameters() if not name.startswith("heads.")]
    expected = torch.autograd.grad(whole, learned, allow_unused=True)
    for value, other in zip(expected, torch.autograd.grad(both[0] + both[1], learned, allow_unused=True), strict=True):
        torch.testing.assert_close(value, other)


def test_adversarial_needs_two_data_sets() -> None:
    with pytest.raises(ConfigError, match=r"sharing\.adversarial: needs tasks on two data sets or more"):
        Adversarial().check(tasks_of({"a": "x", "b": "x"}))
    Adversarial().check(tasks_of())
    with pytest.raises(ValueError, match="needs the rows of each data set"):
        model_of(Adversarial())(torch.randn(4, 4), None, ForwardContext())


# with batch norm


@pytest.mark.parametrize(
    "sharing",
    [Hard(1), NoSharing(), Tree([["a", "c"], ["b"]]), Soft(), Experts(2), Adapters(), CrossStitch(), Adversarial()],
    ids=lambda sharing: type(sharing).__name__,
)
def test_batch_norm_is_estimated_anew_under_every_sharing(sharing: Sharing) -> None:
    model = model_of(sharing, PythonBackbone(f"{__name__}:normalised"))
    recalibrate(model, [(torch.randn(40, 4) * 3 + 2, (24, 16)), (torch.randn(30, 4) * 3 + 2, (12, 18))])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean.ne(0).all()
    outputs = model.eval()(torch.randn(5, 4), (0, 5))
    assert all(value.isfinite().all() for value in outputs.values())


def normalised(input_shape: tuple[int, ...]) -> list[nn.Module]:
    return [nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 5)), nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5))]
