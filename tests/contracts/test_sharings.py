"""What every sharing promises, over the family's dict."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_search.models.sharing import SHARINGS
from mtl_search.recipe import Component, build

tasks = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, unique=True)


@pytest.mark.parametrize("name", SHARINGS)
@given(tasks, st.integers(1, 6))
def test_every_block_has_every_task_once_and_in_order(name: str, tasks: list[str], blocks: int) -> None:
    plan = build(SHARINGS, Component(name)).plan(tasks, blocks)
    assert plan.blocks == blocks
    for groups in plan.groups:
        assert sorted(task for group in groups for task in group) == sorted(tasks)
        assert all(list(group) == sorted(group, key=tasks.index) for group in groups)
        firsts = [tasks.index(group[0]) for group in groups]
        assert firsts == sorted(firsts)


@pytest.mark.parametrize("name", SHARINGS)
def test_plan_depends_on_its_arguments_alone_and_travels(name: str) -> None:
    sharing = pickle.loads(pickle.dumps(build(SHARINGS, Component(name))))  # noqa: S301
    plan = sharing.plan(["a", "b", "c"], 4)
    assert plan == build(SHARINGS, Component(name)).plan(["a", "b", "c"], 4)
    assert pickle.loads(pickle.dumps(plan)) == plan  # noqa: S301


@pytest.mark.parametrize("name", SHARINGS)
def test_one_task_has_one_group_everywhere(name: str) -> None:
    assert build(SHARINGS, Component(name)).plan(["a"], 3).groups == ((("a",),),) * 3
