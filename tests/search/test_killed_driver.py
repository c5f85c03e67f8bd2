"""The real command line, killed and interrupted: what is finished stays, and a second process goes on from it."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from driver_processes import Command, check_states, in_mid_trial, records, second_driver, tracked
from mlflow import MlflowClient
from small_studies import folder_of, study_of, write_study
from trapped_backbone import SLOW

from mtl_search.storage.files import write_json

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

SLOW_TRIALS = {"epochs": 15, "batch_size": SLOW, "optimizer": {"adamw": {"lr": {"float": [1e-4, 1e-2], "log": True}}}}
ALL_DIVERGE = {"epochs": 2, "batch_size": 32, "optimizer": {"sgd": {"lr": {"float": [1e28, 1e30], "log": True}}}}


def versions_of(place: Path) -> dict[str, dict[str, str]]:
    """Tags of the registered versions."""
    uri = f"sqlite:///{place / 'mlflow.db'}"
    return {str(found.version): found.tags for found in MlflowClient(uri, uri).search_model_versions()}


def test_a_killed_driver_s_study_goes_on_where_it_was_and_can_be_extended(
    tmp_path: Path, started: Callable[..., Command]
) -> None:
    write_study(tmp_path, study_of(tmp_path, 5, SLOW_TRIALS))
    first = started(tmp_path)
    lock = folder_of(tmp_path / "mtl_search_runs").path / "lock"
    first.wait_until(lambda: lock.exists() and lock.read_text())
    second = second_driver(tmp_path)
    assert second.returncode == 2
    assert f"is being run by process {first.process.pid}" in second.stderr
    first.wait_until(in_mid_trial(tmp_path))
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    before = records(tmp_path)
    assert {record.state for record in before} >= {"complete", "running"}

    again = started(tmp_path, "--resume", "--trials", "6")
    assert again.end() == 0, again.printed
    check_states(tmp_path, before, 6)
    assert "improvement over the best single-task models" in again.printed
    versions = versions_of(tmp_path)
    last = started(tmp_path, "--resume", "--trials", "6")  # nothing is left to do: all is said again
    assert last.end() == 0, last.printed
    check_states(tmp_path, before, 6)
    assert versions_of(tmp_path) == versions


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupt_ends_cleanly_and_says_how_to_go_on(
    tmp_path: Path, started: Callable[..., Command], number: signal.Signals
) -> None:
    write_study(tmp_path, study_of(tmp_path, 3, SLOW_TRIALS))
    command = started(tmp_path)
    command.wait_until(in_mid_trial(tmp_path))
    began = time.monotonic()
    assert command.end(number) == 130, command.printed
    assert time.monotonic() - began < 60
    assert "nothing finished is lost. To go on: mtl-search search tiny.yaml --resume" in command.printed
    assert "Traceback" not in command.printed
    before = records(tmp_path)
    assert "running" not in {record.state for record in before}
    runs = tracked(tmp_path)
    assert "RUNNING" not in {run.info.status for run in runs.values()}
    assert "interrupted" in runs["study"].data.tags["mlflow.note.content"]
    assert [record.number for record in before if record.state == "interrupted"]


def test_a_driver_that_another_has_taken_over_from_leaves_its_trials_and_runs_to_that_one(
    tmp_path: Path, started: Callable[..., Command]
) -> None:
    write_study(tmp_path, study_of(tmp_path, 4, SLOW_TRIALS))
    sleeper = started(tmp_path)
    sleeper.wait_until(in_mid_trial(tmp_path))
    owner = folder_of(tmp_path / "mtl_search_runs").location / "owner.json"
    theirs = {"token": "theirs", "host": "other", "machine": "other", "pid": 7, "user": "anna", "since": "today"}
    write_json(owner, theirs | {"process_started": 0.0, "beat": 0})
    assert sleeper.process.wait(120) == 2, sleeper.printed
    assert "study tiny was taken over by process 7 on other" in sleeper.printed
    assert "running" in {record.state for record in records(tmp_path)}, "they are the new owner's to close"
    assert tracked(tmp_path)["study"].info.status == "RUNNING"
    owner.unlink()
    again = started(tmp_path, "--resume")
    assert again.end() == 0, again.printed
    check_states(tmp_path, [], 4)


def test_a_study_of_failures_ends_with_code_1_and_the_reasons(tmp_path: Path, started: Callable[..., Command]) -> None:
    write_study(tmp_path, study_of(tmp_path, 3, ALL_DIVERGE))
    command = started(tmp_path)
    assert command.end() == 1, command.printed
    assert "error: no trial succeeded: diverged: " in command.printed
    assert "Traceback" not in command.printed
    assert [record.state for record in records(tmp_path)] == ["failed"] * 3
    runs = tracked(tmp_path)
    assert {runs[f"trial-{number}"].info.status for number in range(3)} == {"FAILED"}
    assert runs["study"].info.status == "FAILED"
    assert "3 failed" in runs["study"].data.tags["mlflow.note.content"]
