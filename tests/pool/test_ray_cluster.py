"""A pool on a cluster of several Ray nodes: it grows as they come and lives on as they go."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.timeout(700), pytest.mark.slow]


def story(name: str, folder: Path, **environment: str) -> Any:
    """What came of a story, told in a process of its own."""
    script = Path(__file__).with_name("cluster_scenarios.py")
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join(map(str, (tests.parent, tests, tests / "search")))
    done = subprocess.run(
        [sys.executable, script, name, folder],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_pool_starts_on_an_empty_cluster_grows_with_it_and_shrinks_without_failing_a_job(tmp_path: Path) -> None:
    found = story("growth", tmp_path)
    assert found["sizes"] == [1, 2, 1]
    assert found["lost"], "a node went while both had a job"
    assert set(found["states"]) == {"done"}
    assert found["epochs"] == [list(range(41))] * 2, "every epoch told once"
    assert sorted(found["attempts"])[-2:] == [1, 2], "the job of the lost node was taken up by the other group"


def test_a_study_without_a_node_left_ends_with_words(tmp_path: Path) -> None:
    found = story("nobody", tmp_path)
    assert (
        "no worker group could start for 45 s: each needs 1 x 1 CPU, and the cluster has 0 CPU in all" in found["said"]
    )
    assert found["after"] < 90


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_job_queue_that_is_killed_comes_back_and_every_job_ends_once(workers: str, tmp_path: Path) -> None:
    found = story("job_queue", tmp_path, WORKERS=workers)
    assert found["killed"] == 1
    assert set(found["states"]) == {"done"}
    assert found["epochs"] == [list(range(31))] * 2


def test_an_elastic_group_goes_on_smaller_and_grows_back_with_the_same_result(tmp_path: Path) -> None:
    found = story("elastic", tmp_path)
    assert found["sizes"] == [2, 1, 2]
    assert set(found["states"]) == {"done"}
    assert found["attempts"][-4:] == [2, 1, 1, 2]
    assert found["epochs"] == list(range(41)), "every epoch told once"
    for elastic, plain in zip(found["elastic"], found["plain"], strict=True):
        assert elastic == pytest.approx(plain, abs=1e-4)


def test_workers_of_a_group_are_packed_on_a_node_where_they_fit_and_data_goes_to_each_node_once(tmp_path: Path) -> None:
    found = story("placement", tmp_path)
    assert sorted(found["packed"]) == [0, 2]
    assert found["two groups"] == [2, 2]
    assert sorted(found["spread"]) == [1, 2]
    copies = [found[f"copies, {name}"] for name in ("packed", "two groups", "spread")]
    assert copies == [2, 3, 3], "the driver's node and each with workers, however many"


def test_a_study_on_a_changing_cluster_ends_every_trial_once(tmp_path: Path) -> None:
    found = story("study", tmp_path)
    assert found["grew"], "two trials ran side by side once there was a second node"
    assert found["numbers"] == list(range(12))
    assert set(found["states"]) == {"complete"}


def test_groups_that_wait_for_room_make_the_autoscaler_add_nodes(tmp_path: Path) -> None:
    # Ray's own providers of nodes give them no token; a Ray that these tests started would have all ask for one.
    found = story("autoscaled", tmp_path, RAY_AUTH_MODE="disabled")
    assert (found["size"], found["nodes"]) == (2, 2)
    assert set(found["states"]) == {"done"}
