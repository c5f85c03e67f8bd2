"""MultiTaskModel: routing of rows through groups, names of parameters, starting points."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mtl_search.data.task import Task
from mtl_search.errors import ConfigError
from mtl_search.models.backbones.mlp import Mlp
from mtl_search.models.backbones.resnet import ResNet
from mtl_search.models.multitask import MultiTaskModel, head_key
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.recipe import Component
from mtl_search.transfer.bases import BASES

HOMES = {"a": "x", "b": "y", "c": "x", "d": "z"}
DATASETS = ("x", "y", "z")
TASKS = [Task(name, "regression", home, (), 0, 1, "mse", Component("rmse"), "y") for name, home in HOMES.items()]
TREE = SharingPlan(
    (
        (("a", "b", "c", "d"),),
        (("a", "d"), ("b", "c")),
        (("a",), ("b",), ("c",), ("d",)),
    )
)
PLANS = {
    "tree": TREE,
    "all": SharingPlan(((("a", "b", "c", "d"),),) * 3),
    "none": SharingPlan.separate("abcd", 3),
    "pairs": SharingPlan(((("a", "b"), ("c", "d")),) * 3),
}


def model(plan: SharingPlan = TREE, tasks: list[Task] = TASKS, datasets: tuple[str, ...] = DATASETS) -> MultiTaskModel:
    torch.manual_seed(0)
    made = MultiTaskModel(Mlp(width=5, depth=3), (4,), tasks, plan, datasets)
    for parameter in made.parameters():  # tell the copies of a block apart
        nn.init.normal_(parameter)
    return made


def calls(made: MultiTaskModel) -> Counter[str]:
    counted: Counter[str] = Counter()
    for name, module in made.named_modules():
        if name.count(".") == 2 and name.startswith("blocks."):
            module.register_forward_hook(lambda m, i, o, name=name: counted.update({f"{name} on {len(i[0])}": 1}))
    return counted


sizes = st.tuples(*[st.integers(0, 4)] * 3)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@given(sizes)
@settings(deadline=None, max_examples=15)
def test_a_batch_of_several_data_sets_gives_what_each_gives_alone(
    plan: SharingPlan, sizes: tuple[int, int, int]
) -> None:
    made = model(plan)
    parts = dict(zip(DATASETS, torch.split(torch.randn(sum(sizes), 4), list(sizes)), strict=True))
    together = made(torch.cat(list(parts.values())), sizes)
    for task in TASKS:
        alone = made(parts[task.dataset])[task.name]
        torch.testing.assert_close(together[task.name], alone)


def test_each_block_and_group_runs_once_on_the_rows_its_tasks_need() -> None:
    made = model()
    counted = calls(made)
    made(torch.randn(12, 4), (5, 4, 3))
    rows = {"0.0": 12, "1.0": 8, "1.1": 9, "2.0": 5, "2.1": 4, "2.2": 5, "2.3": 3}
    assert counted == {f"blocks.{place} on {count}": 1 for place, count in rows.items()}


def test_each_block_and_group_runs_once_on_all_rows_without_sizes() -> None:
    made = model()
    counted = calls(made)
    made(torch.randn(12, 4))
    assert sorted(counted.values()) == [1] * 7
    assert all(key.endswith("on 12") for key in counted)


def test_gradient_of_a_head_comes_from_its_own_rows_only() -> None:
    made = model()
    x = torch.randn(6, 4, requires_grad=True)
    outputs = made(x, (1, 2, 3))
    for task, rows in (("a", [0]), ("b", [1, 2]), ("c", [0]), ("d", [3, 4, 5])):
        (gradient,) = torch.autograd.grad(outputs[task].sum(), x, retain_graph=True)
        assert gradient.abs().sum(1).nonzero().flatten().tolist() == rows


def test_rows_of_a_data_set_that_no_task_of_the_model_needs_are_left_out() -> None:
    made = model(SharingPlan.separate(["a"], 3), TASKS[:1])
    counted = calls(made)
    x = torch.randn(6, 4)
    torch.testing.assert_close(made(x, (2, 1, 3))["a"], made(x[:2])["a"])
    assert counted["blocks.0.0 on 2"] == 2


def test_every_parameter_gets_a_gradient_even_from_an_empty_data_set() -> None:
    made = model()
    outputs = made(torch.randn(4, 4), (4, 0, 0))
    torch.autograd.backward([out.sum() for out in outputs.values()])
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_one_data_set_is_never_split() -> None:
    tasks = [Task(name, "regression", "x", (), 0, 1, "mse", Component("rmse"), "y") for name in "abcd"]
    made = model(TREE, tasks, ("x",))
    seen: list[Tensor] = []
    made.get_submodule("blocks.0.0").register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.randn(3, 4)
    outputs = made(x, (3,))
    assert seen[0] is x
    assert all(torch.equal(outputs[name], value) for name, value in made(x).items())


def test_sizes_must_describe_the_batch() -> None:
    for wrong in ((1, 2), (1, 2, 4)):
        with pytest.raises(ValueError, match="sizes must be the rows"):
            model()(torch.randn(6, 4), wrong)


def test_parameters_are_named_by_block_group_and_task() -> None:
    names = {".".join(name.split(".")[:3]) for name, _ in model().named_parameters() if name.startswith("blocks")}
    assert names == {f"blocks.{place}" for place in ("0.0", "1.0", "1.1", "2.0", "2.1", "2.2", "2.3")}
    assert {name for name in model().state_dict() if name.startswith("heads.a.")} == {
        "heads.a.linear.weight",
        "heads.a.linear.bias",
    }


def test_tasks_may_be_named_like_attributes_of_a_module() -> None:
    names = ["type", "train", "keys", "T_destination", "half", "a-b"]
    tasks = [Task(name, "regression", "x", (), 0, 1, "mse", Component("rmse"), "y") for name in names]
    made = MultiTaskModel(Mlp(5, 1), (4,), tasks, SharingPlan.separate(names, 1), ["x"])
    assert list(made(torch.randn(2, 4))) == names
    made.load_state_dict(made.state_dict())
    assert head_key("a-b") == "a-b"
    assert len({head_key(name) for name in names}) == len(names)


def test_shared_parameters_are_those_of_groups_of_two_or_more() -> None:
    def names_of(made: MultiTaskModel) -> set[str]:
        shared = {id(parameter) for parameter in made.shared_parameters()}
        return {".".join(name.split(".")[:3]) for name, p in made.named_parameters() if id(p) in shared}

    assert names_of(model()) == {"blocks.0.0", "blocks.1.0", "blocks.1.1"}
    assert names_of(model(PLANS["none"])) == set()
    single = model(SharingPlan.separate(["a"], 3), TASKS[:1])
    assert names_of(single) == {"blocks.0.0", "blocks.1.0", "blocks.2.0"}


def test_copies_start_alike_and_share_no_memory() -> None:
    made = MultiTaskModel(Mlp(5, 2), (4,), TASKS, SharingPlan.separate("abcd", 2), DATASETS)
    first, second = (made.get_submodule(f"blocks.0.{group}").state_dict() for group in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not {v.data_ptr() for v in first.values()} & {v.data_ptr() for v in second.values()}


def test_base_reaches_every_copy_of_every_block() -> None:
    backbone = Mlp(width=5, depth=11)
    base = BASES["random"]().state(lambda: backbone.blocks((4,)), seed=7)
    made = MultiTaskModel(backbone, (4,), TASKS, SharingPlan.separate("abcd", 11), DATASETS)
    made.load_base(base)
    for name, value in made.state_dict().items():
        if name.startswith("blocks."):
            _, block, _, rest = name.split(".", 3)
            assert torch.equal(value, base[f"{block}.{rest}"])


def test_a_head_starts_the_same_alone_and_beside_others() -> None:
    together, alone = model(), model(SharingPlan.separate(["c"], 3), [TASKS[2]], ("x",))
    before = torch.random.get_rng_state()
    together.initialise(5)
    alone.initialise(5)
    assert torch.equal(torch.random.get_rng_state(), before)
    ours, theirs = together.state_dict(), alone.state_dict()
    assert torch.equal(ours["heads.c.linear.weight"], theirs["heads.c.linear.weight"])
    assert not torch.equal(ours["heads.c.linear.weight"], ours["heads.a.linear.weight"])


def test_random_state_advances_alike_under_every_plan() -> None:
    states = []
    for plan in PLANS.values():
        torch.manual_seed(0)
        MultiTaskModel(Mlp(width=5, depth=3), (4,), TASKS, plan, DATASETS)
        states.append(torch.random.get_rng_state())
    assert all(torch.equal(states[0], other) for other in states)


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="backbone's 4 blocks, got 3"):
        MultiTaskModel(Mlp(depth=4), (4,), TASKS, TREE, DATASETS)
    with pytest.raises(ConfigError, match="model's tasks"):
        MultiTaskModel(Mlp(), (4,), TASKS[:2], TREE, DATASETS)
    with pytest.raises(ConfigError, match=r"tasks\.d\.data: must name a data set of the model, got 'z'"):
        MultiTaskModel(Mlp(), (4,), TASKS, TREE, DATASETS[:2])
    with pytest.raises(ConfigError, match="needs images"):
        MultiTaskModel(ResNet(), (4,), TASKS, TREE, DATASETS)
