"""Groups made of task affinity, and the file that keeps it."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_search.search.file_callbacks import AffinityFileCallback
from mtl_search.search.grouping import EXHAUSTIVE, group_tasks, mean_cosines
from mtl_search.storage.files import read_json
from mtl_search.storage.reports import EpochReport
from mtl_search.study_store.folder import StudyFolder


def affinity_of(
    tasks: list[str], inside: float, outside: float, groups: list[list[str]]
) -> dict[str, dict[str, float]]:
    location = {task: number for number, group in enumerate(groups) for task in group}
    return {a: {b: inside if location[a] == location[b] else outside for b in tasks if b != a} for a in tasks}


@given(st.permutations([f"t{number}" for number in range(9)]), st.lists(st.integers(0, 2), min_size=3, max_size=9))
def test_tasks_that_go_together_are_found_however_many_there_are(names: list[str], task_datasets: list[int]) -> None:
    tasks = names[: len(task_datasets)]
    planted = [
        [t for t, location in zip(tasks, task_datasets, strict=True) if location == number]
        for number in sorted(set(task_datasets))
    ]
    if len(planted) == 1 or all(len(group) == 1 for group in planted):
        return  # every pair is alike: nothing speaks for any group
    found = group_tasks(tasks, affinity_of(tasks, 0.5, -0.2, planted))
    assert sorted(map(sorted, found)) == sorted(map(sorted, planted))
    assert found[0][0] == tasks[0]


def test_up_to_six_tasks_no_partition_is_better() -> None:
    tasks = ["a", "b", "c", "d"]
    # Greedy merging would begin with b+c and miss a+b, c+d.
    worth = {"ab": 5.0, "cd": 5.0, "bc": 6.0, "ac": -8.0, "bd": -8.0, "ad": 0.0}
    affinity = {a: {b: worth["".join(sorted(a + b))] for b in tasks if b != a} for a in tasks}
    assert len(tasks) <= EXHAUSTIVE
    assert group_tasks(tasks, affinity) == [["a", "b"], ["c", "d"]]


def test_directions_are_averaged_and_unmeasured_pairs_count_nothing() -> None:
    affinity = {"a": {"b": 2.0, "c": 0.0}, "b": {"a": 0.0, "c": 0.0}, "c": {}}
    assert group_tasks(["a", "b", "c"], affinity) == [["a", "b"], ["c"]]
    assert group_tasks(["a", "b"], {}) == [["a"], ["b"]] or group_tasks(["a", "b"], {}) == [["a", "b"]]


def test_cosines_are_averaged_over_epochs_and_trainings_both_ways_round() -> None:
    start = EpochReport(0, 0.0, 0.0)
    first = [start, replace(start, cosines={"a": {"b": 0.2, "c": -0.4}}), replace(start, cosines={"a": {"b": 0.4}})]
    second = [start, replace(start, cosines={"a": {"b": 0.9}, "b": {"c": 0.1}})]
    assert mean_cosines([first, second]) == {
        "a": {"b": pytest.approx(0.5), "c": -0.4},
        "b": {"a": pytest.approx(0.5), "c": 0.1},
        "c": {"a": -0.4, "b": 0.1},
    }


def test_each_kind_of_affinity_is_kept_in_the_studys_folder(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "s")
    keeper = AffinityFileCallback(folder)
    for kind, value in (("cosine", 0.1), ("look_ahead", 0.2), ("cosine", 0.3)):
        keeper.on_affinity_measured(kind, {"a": {"b": value}}, [["a", "b"]])
    known = read_json(folder.affinity_file)
    assert {kind: each["affinity"]["a"]["b"] for kind, each in known.items()} == {"cosine": 0.3, "look_ahead": 0.2}
