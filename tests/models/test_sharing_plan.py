"""SharingPlan: partitions that refine each other, and hard sharing's depth."""

import pytest

from mtl_search.data.task import Task
from mtl_search.errors import ConfigError
from mtl_search.models.backbones.mlp import Mlp
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.models.sharing.base import Sharing
from mtl_search.models.sharing.hard import Hard
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.recipe import Component

TREE = SharingPlan(((("a", "b", "c"),), (("a", "c"), ("b",)), (("a",), ("b",), ("c",))))


def test_hard_sharing_parts_all_tasks_at_its_depth() -> None:
    plan = Hard(depth=2).plan(["a", "b"], 3)
    assert plan.groups == ((("a", "b"),), (("a", "b"),), (("a",), ("b",)))
    assert plan.shared_depth == 2


def test_hard_sharing_without_depth_shares_the_whole_backbone() -> None:
    assert Hard().plan(["a", "b"], 3).groups == ((("a", "b"),),) * 3


def test_hard_sharing_of_depth_0_is_no_sharing() -> None:
    assert Hard(0).plan(["a", "b"], 3) == SharingPlan.separate(["a", "b"], 3)


def test_depth_beyond_the_backbone_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sharing\.hard\.depth: must be from 0 to the backbone's 3 blocks, got 4"):
        Hard(4).plan(["a", "b"], 3)


def test_tree_knows_its_groups() -> None:
    assert TREE.tasks == ("a", "b", "c")
    assert [TREE.shared(block) for block in range(3)] == [(0,), (0,), ()]
    assert [TREE.group_of(1, task) for task in "abc"] == [0, 1, 0]
    assert str(TREE) == "a+b+c > a+c | b > a | b | c"


@pytest.mark.parametrize(
    ("groups", "rule"),
    [
        ((), "at least one block"),
        (((),), "at least one block"),
        (((("a", "b"),), (("a",),)), "block 2 must have every task"),
        (((("a", "b"),), (("a",), ("a", "b"))), "block 2 must have every task"),
        (((("a", "a"),),), "block 1 must have every task"),
        (((("a", "b"), ()),), "block 1 must have every task"),
        (((("a",), ("b",)), (("a", "b"),)), "block 2 must not join"),
    ],
)
def test_groups_that_are_no_refining_partitions_are_refused(
    groups: tuple[tuple[tuple[str, ...], ...], ...], rule: str
) -> None:
    with pytest.raises(ConfigError, match=rule):
        SharingPlan(groups)


def test_copies_start_from_the_tasks_that_use_them_unless_told_otherwise() -> None:
    assert TREE.starts == TREE.groups
    crossed = SharingPlan(((("a", "b"), ("a", "b")),), ((("a",), ("b",)),), tree=False)
    assert crossed.starts == ((("a",), ("b",)),)
    assert crossed.tasks == ("a", "b")
    assert crossed != SharingPlan(crossed.groups, tree=False)


@pytest.mark.parametrize(
    ("groups", "starts", "rule"),
    [
        (((("a", "b"),), (("a",), ("a",))), (), "block 2 must have every task in some copy"),
        (((("a", "a", "b"),),), (), "block 1 must have every task in some copy"),
        (((("a", "b"), ()),), (), "block 1 must have every task in some copy"),
        (((("a",), ("b",)),), ((("a",),),), "one start for each copy"),
        (((("a",), ("b",)),), ((("a",), ()),), "copies of block 1 must start from tasks"),
        (((("a",), ("b",)),), ((("a",), ("c",)),), "copies of block 1 must start from tasks"),
    ],
)
def test_copies_without_tasks_or_starts_are_refused(
    groups: tuple[tuple[tuple[str, ...], ...], ...], starts: tuple[tuple[tuple[str, ...], ...], ...], rule: str
) -> None:
    with pytest.raises(ConfigError, match=rule):
        SharingPlan(groups, starts, tree=False)


def test_a_plan_that_is_no_tree_needs_a_coupling_of_its_own() -> None:
    plan = SharingPlan(((("a",), ("b",)), (("a", "b"),)), tree=False)
    tasks = [Task(name, "regression", "x", (), 0, 1, "mse", Component("rmse"), "t") for name in "ab"]
    with pytest.raises(ConfigError, match="must plan a tree, or say how its copies are coupled"):
        MultiTaskModel(Mlp(5, 2), (4,), tasks, plan, ["x"])


class _Backwards(Sharing):
    def _plan(self, tasks: tuple[str, ...], blocks: int) -> SharingPlan:
        return SharingPlan(((tuple(reversed(tasks)),), tuple((task,) for task in reversed(tasks))))


def test_a_users_plan_is_put_into_the_studys_order_and_held_to_the_backbone() -> None:
    assert _Backwards().plan(["b", "a"], 2).groups == ((("b", "a"),), (("b",), ("a",)))
    with pytest.raises(ConfigError, match="plan for 3 blocks"):
        _Backwards().plan(["b", "a"], 3)
