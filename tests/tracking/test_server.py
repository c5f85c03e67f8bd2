"""A real MLflow server that goes away in the middle of a study: the driver does not notice, and nothing is lost."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow_server import PATIENCE, Server, free_port

from mtl_search.tracking.journal import PARENT
from mtl_search.tracking.tracker import Tracker

Track = Callable[..., Tracker]


@pytest.fixture
def server(tmp_path: Path, uri: str) -> Iterator[Server]:
    made = Server(tmp_path)
    try:
        yield made
    finally:
        made.kill()


def study(tracker: Tracker, trials: range) -> None:
    for trial in trials:
        tracker.start_run(str(trial), f"trial {trial}", {"number": trial}, {})
        for step in range(10):
            tracker.log_metrics(str(trial), {"loss": trial + step / 10, "accuracy": step / 10}, step)
        tracker.end_run(str(trial), "FINISHED")


@pytest.mark.slow
def test_nothing_is_lost_when_the_server_is_killed_and_started_again(
    track: Track, seen, rejected, server: Server
) -> None:
    server.start()
    tracker = track(uri=server.uri)
    tracker.start_study({"seed": 0}, {})
    study(tracker, range(5))
    assert tracker.flush(PATIENCE) == 0
    study(tracker, range(5, 10))  # some of it may be on its way when the server dies
    time.sleep(0.3)
    server.kill()
    study(tracker, range(10, 15))
    tracker.start_run("open", "trial 15", {}, {})
    tracker.log_text(None, "report.md", "# Report\n")
    tracker.log_metrics(None, {f"many/{i}": i for i in range(2500)}, 0)
    assert tracker.flush(2.0) > 0
    assert "Connection refused" in str(tracker.problem)
    server.start()
    assert tracker.flush(PATIENCE) == 0
    assert tracker.problem is None
    assert seen.states[PARENT] == "RUNNING"
    assert tracker.page == f"{server.uri}/#/experiments/1/runs?workflowType=machine_learning"
    tracker.end_study("FINISHED")
    assert tracker.close(PATIENCE) == 0
    assert seen.states == {str(trial): "FINISHED" for trial in range(15)} | {PARENT: "FINISHED", "open": "KILLED"}
    for trial in range(15):
        values = [(step, value) for step, value, _ in seen.curve(str(trial), "loss")]
        assert values == [(step, trial + step / 10) for step in range(10)]
    assert len(seen.runs[PARENT].data.metrics) == 2500
    assert [file.read_text() for file in server.folder.glob("served/**/report.md")] == ["# Report\n"]
    assert rejected() == []


def test_server_that_never_answers_costs_the_driver_nothing_and_the_next_process_delivers(
    track: Track, seen, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = track(uri=f"http://127.0.0.1:{free_port()}")
    tracker.start_study({}, {})
    study(tracker, range(3))
    tracker.end_study("FINISHED")
    events = 1 + 3 * 12 + 1
    assert tracker.flush(2.0) == events
    assert "Connection refused" in str(tracker.problem)
    assert tracker.run_id(None) is None
    assert tracker.close(0.0) == events
    assert not {"MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"} & os.environ.keys()
    with track() as later:  # the database behind a server has another address
        assert later.flush(PATIENCE) == 0
    assert seen.states == dict.fromkeys([PARENT, "0", "1", "2"], "FINISHED")
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "Retrying" not in printed.err
