"""The real command line, killed and interrupted: what is finished stays, and a second process goes on from it."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_studies import folder_of, study_of, write_study
from trapped_backbone import SLOW

from mtl_search.search.record import TrialRecord

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

SLOW_TRIALS = {"epochs": 15, "batch_size": SLOW, "optimizer": {"adamw": {"lr": {"float": [1e-4, 1e-2], "log": True}}}}
ALL_DIVERGE = {"epochs": 2, "batch_size": 32, "optimizer": {"sgd": {"lr": {"float": [1e28, 1e30], "log": True}}}}


def named(process: psutil.Process) -> str:
    """A process's title, empty if it is gone."""
    try:
        return str(process.cmdline()[0]).strip()
    except (psutil.Error, IndexError):
        return ""


@dataclass
class Command:
    """A running ``mtl-search search``, in a session of its own as a terminal would have it."""

    place: Path
    process: subprocess.Popen[str]
    family: set[psutil.Process] = field(default_factory=set)

    @classmethod
    def start(cls, place: Path, *options: str) -> "Command":
        with (place / "printed").open("w") as printed:
            process = subprocess.Popen(
                [sys.executable, "-m", "mtl_search.cli", "search", "tiny.yaml", *options],
                cwd=place,
                stdout=printed,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        return cls(place, process)

    @property
    def printed(self) -> str:
        return (self.place / "printed").read_text()

    def wait_until(self, what: Callable[[], Any], seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.05)

    def end(self, number: signal.Signals | None = None, seconds: float = 300) -> int:
        """Send a signal to the driver (Ctrl-C: to all of its group), and wait for it and all of its processes."""
        driver = psutil.Process(self.process.pid)
        self.family |= set(driver.children(recursive=True))
        if number is signal.SIGINT:
            os.killpg(self.process.pid, number)
        elif number is not None:
            self.process.send_signal(number)
        code = self.process.wait(seconds)
        # Ray's own two agents look for the killed head a minute long, then they end too.
        waited = [each for each in self.family if number is not signal.SIGKILL or not named(each).endswith("Agent")]
        _, left = psutil.wait_procs(waited, timeout=30)
        assert [named(each) for each in left] == []
        return code


@pytest.fixture
def started() -> Iterator[Callable[..., Command]]:
    commands: list[Command] = []

    def start(place: Path, *options: str) -> Command:
        commands.append(Command.start(place, *options))
        return commands[-1]

    yield start
    for command in commands:
        if command.process.poll() is None:
            command.process.kill()


def records(place: Path) -> list[TrialRecord]:
    return folder_of(place / "mtl_search_runs").records("journal")


def in_mid_trial(place: Path) -> Callable[[], bool]:
    """Whether some trial is finished and another one has come some way."""
    folder = folder_of(place / "mtl_search_runs")
    return lambda: (
        any(folder.trials.glob("*/result.json"))
        and any(folder.trials.glob("*/checkpoint.pt"))
        and any(record.state == "complete" for record in records(place))
    )


def tracked(place: Path) -> dict[str, str]:
    """Status in MLflow by run."""
    with sqlite3.connect(place / "mlflow.db") as database:
        runs = database.execute("select name, status from runs").fetchall()
    assert len(dict(runs)) == len(runs), "no run twice"
    return dict(runs)


def check_states(place: Path, before: list[TrialRecord], trials: int) -> list[TrialRecord]:
    """Optuna and MLflow agree, nothing runs, nothing finished was lost or doubled."""
    after = records(place)
    finished = [record for record in before if record.state == "complete"]
    assert [record for record in after if record.number in {old.number for old in finished}] == finished
    counts = Counter(record.state for record in after)
    assert counts["complete"] == trials
    assert set(counts) <= {"complete", "interrupted"}
    keys = [record.recipe.key for record in after if record.recipe and record.state == "complete"]
    assert len(set(keys)) == trials, "no recipe trained twice"
    lost = {record.number for record in after if record.state == "interrupted"}
    assert {record.retry_of for record in after if record.retry_of is not None} == lost
    assert lost
    runs = tracked(place)
    status = {"complete": "FINISHED", "interrupted": "KILLED"}
    for record in after:
        assert runs.pop(f"trial-{record.number:03d}") == status[record.state]
    assert runs == {"study tiny": "FINISHED", "baseline-kind": "FINISHED", "baseline-petal": "FINISHED"}
    return after


def test_a_killed_driver_s_study_goes_on_where_it_was_and_can_be_extended(
    tmp_path: Path, started: Callable[..., Command]
) -> None:
    write_study(tmp_path, study_of(tmp_path, 5, SLOW_TRIALS))
    first = started(tmp_path)
    lock = folder_of(tmp_path / "mtl_search_runs").path / "lock"
    first.wait_until(lambda: lock.exists() and lock.read_text())
    second = subprocess.run(
        [sys.executable, "-m", "mtl_search.cli", "search", "tiny.yaml", "--resume"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert second.returncode == 2
    assert f"is being run by process {first.process.pid}" in second.stderr
    first.wait_until(in_mid_trial(tmp_path))
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    before = records(tmp_path)
    assert {record.state for record in before} >= {"complete", "running"}

    again = started(tmp_path, "--resume", "--trials", "6")
    assert again.end() == 0, again.printed
    check_states(tmp_path, before, 6)
    assert "improvement over single-task models" in again.printed


def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(tmp_path: Path, started: Callable[..., Command]) -> None:
    write_study(tmp_path, study_of(tmp_path, 3, SLOW_TRIALS))
    command = started(tmp_path)
    command.wait_until(in_mid_trial(tmp_path))
    began = time.monotonic()
    assert command.end(signal.SIGINT) == 130, command.printed
    assert time.monotonic() - began < 60
    assert "nothing finished is lost. To go on: mtl-search search tiny.yaml --resume" in command.printed
    assert "Traceback" not in command.printed
    before = records(tmp_path)
    assert "running" not in {record.state for record in before}
    assert "RUNNING" not in tracked(tmp_path).values()
    assert [record.number for record in before if record.state == "interrupted"]


def test_a_study_of_failures_ends_with_code_1_and_the_reasons(tmp_path: Path, started: Callable[..., Command]) -> None:
    write_study(tmp_path, study_of(tmp_path, 3, ALL_DIVERGE))
    command = started(tmp_path)
    assert command.end() == 1, command.printed
    assert "error: no trial succeeded: diverged: " in command.printed
    assert "Traceback" not in command.printed
    assert [record.state for record in records(tmp_path)] == ["failed"] * 3
    runs = tracked(tmp_path)
    assert {runs[f"trial-{number:03d}"] for number in range(3)} == {"FAILED"}
    assert runs["study tiny"] == "FAILED"
