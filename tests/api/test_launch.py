"""What ``prepare`` lets pass: spaces in which some pairs make no sense, but every part has a partner."""

from typing import Any

import pytest

from mtl_search.errors import ConfigError
from mtl_search.validation.prepare import prepare
from mtl_search.validation.study_file import load_study

INPUTS = ["sepal length (cm)", "sepal width (cm)"]


def study(targets: list[str], **space: Any) -> dict[str, Any]:
    """Tasks on one data set of iris, and a source task on another."""
    source = {"sklearn": {"name": "iris", "inputs": INPUTS}}
    kinds = {"kind": ("classification", "target"), "petal": ("regression", "petal width (cm)")}
    tasks = {name: {"kind": kinds[name][0], "target": kinds[name][1], "data": "here"} for name in targets}
    return {
        "name": "flowers",
        "data": {"sources": {"here": source, "there": source}},
        "tasks": tasks,
        "source_tasks": {"length": {"kind": "regression", "target": "petal length (cm)", "data": "there"}},
        "backbone": {"mlp": {"width": 4, "depth": 2}},
        "space": {"auxiliary": ["none", "constant"], "alignment": ["none", "coral"], **space},
        "search": {"trials": 2},
    }


@pytest.mark.parametrize("targets", [["kind", "petal"], ["kind"]], ids=["two tasks", "one task"])
def test_a_source_task_is_something_to_align_and_share_with(targets: list[str]) -> None:
    prepared = prepare(load_study(study(targets, sharing=["hard", "adversarial"])))
    assert [task.name for task in prepared.data.source_tasks] == ["length"]


def test_a_tree_of_the_tasks_goes_with_source_tasks() -> None:
    tree = {"tree": {"groups": [["kind"], ["petal"]], "depth": 1}}
    prepared = prepare(load_study(study(["kind", "petal"], sharing=["hard", tree])))
    network = prepared.workload.network(["kind", "petal", "length"], prepared.study.space.extreme_recipes()[0].sharing)
    assert network.plan.tree


def test_what_lies_between_tasks_still_needs_two_of_them() -> None:
    with pytest.raises(ConfigError, match=r"space\.fusion: has no effect with a single task"):
        load_study(study(["kind"], fusion=["mean", "ties"]))
