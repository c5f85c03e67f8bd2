"""Several drivers' trackers on one study: one parent run, every trial once, nothing lost with a driver that dies."""

from pathlib import Path

import pytest
from driver_processes import runs_at

from mtl_search.tracking.journal import PARENT
from mtl_search.tracking.tracker import Tracker, deliver_left

pytestmark = pytest.mark.timeout(300)


def test_two_drivers_fill_one_parent_run_and_one_of_them_ends_it(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "tracking"
    with Tracker(folder, uri, "shared", "s", "one") as one, Tracker(folder, uri, "shared", "s", "two") as two:
        for number, tracker in enumerate((one, two)):
            tracker.start_study({"seed": 0}, {})
            tracker.start_run(f"trial-{number}", f"trial {number}", {}, {})
            tracker.end_run(f"trial-{number}", "FINISHED")
        assert two.flush(60) == 0
        one.set_tags("trial-1", {"best": True})  # the other's run
        one.end_study("FINISHED", {"improvement": 1.0})
        assert one.flush(60) == 0
    runs = runs_at(uri, "shared")
    assert set(runs) == {PARENT, "trial-0", "trial-1"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert {runs[key].data.tags["mlflow.parentRunId"] for key in ("trial-0", "trial-1")} == {runs[PARENT].info.run_id}
    assert runs["trial-1"].data.tags["best"] == "true"


def test_what_a_dead_driver_had_said_is_delivered_and_its_trial_is_closed_in_its_run(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "tracking"
    dead = Tracker(folder, uri, "shared", "s", "dead")  # never delivers
    dead.start_study({}, {})
    for key in ("trial-0", "trial-1"):
        dead.start_run(key, key, {}, {"state": "RUNNING"})
    dead.end_run("trial-0", "FINISHED")
    dead.close()
    with Tracker(folder, uri, "shared", "s", "alive") as alive:
        alive.start_study({}, {})
        alive.start_run("trial-1", "trial-1", {}, {"state": "RUNNING"})
        alive.end_run("trial-1", "KILLED", {"state": "INTERRUPTED"})
        assert alive.flush(60) == 0
        deliver_left(folder, uri, "shared", "s")
        alive.end_study("FINISHED")
    runs = runs_at(uri, "shared")
    assert {key: run.info.status for key, run in runs.items()} == {
        PARENT: "FINISHED",
        "trial-0": "FINISHED",
        "trial-1": "KILLED",
    }
    assert runs["trial-1"].data.tags["state"] == "INTERRUPTED", "its first owner's words come late"


def test_a_driver_that_leaves_by_an_error_does_not_end_the_others_study(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "tracking"
    tracker = Tracker(folder, uri, "shared", "s", "one").start()
    tracker.start_study({"seed": 0}, {})
    error = RuntimeError("killed by its user")
    tracker.__exit__(RuntimeError, error, None)
    assert runs_at(uri, "shared")[PARENT].info.status == "RUNNING"
