"""What becomes of events that cannot be delivered: kept, retried, set aside when refused for ever, never said twice."""

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mtl_search.tracking.journal import PARENT
from mtl_search.tracking.tracker import Tracker

PATIENCE = 60.0
Track = Callable[..., Tracker]


def test_refused_event_is_set_aside_and_said_and_the_others_arrive(
    track: Track, seen, rejected, caplog: pytest.LogCaptureFixture
) -> None:
    with track() as tracker, caplog.at_level(logging.WARNING):
        tracker.start_study({}, {})
        for step in range(5):
            tracker.log_metrics(None, {"loss": float(step)}, step, time_ms=-1 if step == 2 else 10 + step)
        tracker.log_metrics("never started", {"loss": 0.0}, 0)
        tracker.end_study("FINISHED")
        assert (tracker.flush(PATIENCE), tracker.rejected, tracker.problem) == (0, 2, None)
    assert [step for step, _, _ in seen.curve(PARENT, "loss")] == [0, 1, 3, 4]
    assert seen.states == {PARENT: "FINISHED"}
    by_time, by_key = sorted(rejected(), key=lambda entry: entry["event"]["time"])
    assert "timestamp" in by_time["reason"]
    assert by_time["event"] == {"kind": "metrics", "key": PARENT, "time": -1, "metrics": {"loss": 2.0}, "step": 2}
    assert "never started" in by_key["reason"]
    assert "rejected.jsonl" in caplog.text


def test_event_on_which_the_server_stumbles_again_and_again_is_set_aside(track: Track, seen, rejected) -> None:
    with track() as tracker:
        tracker.start_study({}, {})
        tracker.log_metrics(None, {"loss": 0.0}, step=2**70)  # no database integer: an internal error, not a refusal
        tracker.end_study("FINISHED")
        assert (tracker.flush(PATIENCE), tracker.problem) == (0, None)
    assert [entry["event"]["step"] for entry in rejected()] == [2**70]
    assert seen.states == {PARENT: "FINISHED"}


def test_line_torn_by_a_kill_is_set_aside(track: Track, seen, rejected, tmp_path: Path) -> None:
    with track() as tracker:
        tracker.start_study({}, {})
    with (tmp_path / "journal" / "events.jsonl").open("a") as journal:
        journal.write('{"kind":"metrics","key":"study","ti')
    with track() as tracker:
        tracker.end_study("FINISHED")
    assert seen.states == {PARENT: "FINISHED"}
    assert ["torn" in entry["reason"] for entry in rejected()] == [True]


def test_delivering_all_again_changes_nothing(track: Track, seen, rejected, tmp_path: Path) -> None:
    with track() as tracker:
        tracker.start_study({"a": 1}, {})
        for step in range(20):
            tracker.log_metrics(None, {"loss": float(step), "nan": float("nan")}, step)
        tracker.end_study("FINISHED")
    before = (seen.states, seen.curve(PARENT, "loss"), len(seen.curve(PARENT, "nan")))
    for file in (tmp_path / "journal").glob("delivered-*.json"):
        file.unlink()
    with track() as tracker:
        assert tracker.flush(PATIENCE) == 0
    assert (seen.states, seen.curve(PARENT, "loss"), len(seen.curve(PARENT, "nan"))) == before
    assert rejected() == []


def test_another_destination_gets_the_whole_story(track: Track, seen) -> None:
    with track() as tracker:
        tracker.start_study({}, {})
        tracker.end_study("FINISHED")
    with track(experiment="other") as tracker:
        assert tracker.flush(PATIENCE) == 0
    assert seen.states == type(seen)(seen.uri, "other").states == {PARENT: "FINISHED"}


def test_emptied_database_gets_the_whole_story_again(track: Track, seen, tmp_path: Path, empty_database: Path) -> None:
    with track() as tracker:
        tracker.start_study({}, {})
        tracker.start_run("0", "trial 0", {}, {})
        tracker.end_run("0", "FINISHED")
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())  # in place, since MLflow holds the file open
    with track() as tracker:
        tracker.end_study("FINISHED")
    assert seen.states == {PARENT: "FINISHED", "0": "FINISHED"}


def test_deleted_experiment_is_said_and_its_events_wait(track: Track, seen) -> None:
    experiment = seen.client.create_experiment("e")
    seen.client.delete_experiment(experiment)
    tracker = track()
    tracker.start_study({}, {})
    assert tracker.flush(3.0) == 1
    assert "experiment 'e' is deleted in MLflow" in str(tracker.problem)
    seen.client.restore_experiment(experiment)
    assert tracker.close(PATIENCE) == 0
    assert seen.states == {PARENT: "RUNNING"}


def test_second_tracker_on_a_folder_waits_for_the_first(track: Track, seen) -> None:
    first = track()
    first.start_study({}, {})
    assert first.flush(PATIENCE) == 0
    second = track()
    second.end_study("FINISHED")
    while second.problem is None:
        time.sleep(0.01)
    assert "another process delivers" in second.problem
    assert first.close(PATIENCE) + second.close(PATIENCE) == 0
    assert seen.states == {PARENT: "FINISHED"}


DRIVER = """
import sys, time
from pathlib import Path
from mtl_search.tracking.tracker import Tracker

tracker = Tracker(Path(sys.argv[1]), sys.argv[2], "e", "quickstart").start()
tracker.start_study({"seed": 0}, {})
for trial in range(1_000_000):
    tracker.start_run(str(trial), f"trial {trial}", {"number": trial}, {})
    for step in range(5):
        tracker.log_metrics(str(trial), {"loss": trial + step / 10}, step)
        time.sleep(0.01)
    tracker.end_run(str(trial), "FINISHED")
"""


def test_journal_of_a_killed_driver_is_delivered_by_the_next_process(
    track: Track, seen, rejected, tmp_path: Path
) -> None:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path / "journal"), seen.uri])
    until = time.monotonic() + PATIENCE
    while not any((tmp_path / "journal").glob("delivered-*.json")) and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.7)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    said = [json.loads(line) for line in (tmp_path / "journal" / "events.jsonl").read_text().splitlines()]
    started = {event["key"] for event in said if event["kind"] == "start"} - {PARENT}
    assert len(started) > 5
    tracker = track()
    tracker.start_study({"seed": 0}, {})
    assert tracker.flush(PATIENCE) == 0
    assert seen.states[PARENT] == "RUNNING"
    tracker.end_study("FINISHED")
    assert tracker.close(PATIENCE) == 0
    last = str(len(started) - 1)
    assert seen.states.keys() == started | {PARENT}
    assert {key: state for key, state in seen.states.items() if state != "FINISHED"} in ({}, {last: "KILLED"})
    points = sum(event["kind"] == "metrics" for event in said)
    assert sum(len(seen.curve(key, "loss")) for key in started) == points
    assert rejected() == []
