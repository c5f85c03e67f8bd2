"""Two real command lines on one study with ``--join``: the budget is used once, whoever or whatever goes away."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from driver_processes import Command, check_states, records, second_driver, tracked
from postgres_server import Postgres
from small_studies import folder_of, study_of, write_study
from trapped_backbone import SLOW

from mtl_search.study_store.folder import StudyFolder

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

TRIALS = 5
AWAY = 60.0
"""Seconds; more than a driver may be silent."""
JOINT = {"epochs": 12, "batch_size": SLOW, "optimizer": {"adamw": {"lr": {"float": [1e-4, 1e-2], "log": True}}}}


def places(tmp_path: Path, storage: str = "journal") -> tuple[Path, Path, str]:
    """Two working folders with one study file; its storage and MLflow's database lie in the first."""
    first, second = tmp_path / "first", tmp_path / "second"
    uri = f"sqlite:///{first / 'mlflow.db'}"
    raw = study_of(tmp_path, TRIALS, JOINT)
    raw["resources"] = {"concurrent_trials": 1}
    raw["tracking"] = {"uri": uri}
    raw["search"]["storage"] = storage
    raw["storage"] = str(first / "mtl_search_runs")
    for place in (first, second):
        place.mkdir()
        write_study(place, yaml.safe_load(yaml.safe_dump(raw)))
    return first, second, uri


def drivers_at_work(folder: StudyFolder, storage: str = "journal") -> set[str]:
    return {
        trial.user_attrs["driver"]
        for trial in folder.read_trials(storage)
        if trial.state.name == "RUNNING" and trial.user_attrs.get("driver")
    }


def test_of_two_drivers_one_is_killed_and_the_other_ends_the_study_with_its_trials(
    tmp_path: Path, started: Callable[..., Command]
) -> None:
    first, second, uri = places(tmp_path)
    folder = folder_of(first / "mtl_search_runs")
    survivor, victim = started(first, "--join"), started(second, "--join")
    survivor.wait_until(lambda: folder.exists)
    alone = second_driver(first)
    assert alone.returncode == 2
    assert "--join" in alone.stderr
    survivor.wait_until(lambda: len(drivers_at_work(folder)) == 2)
    assert victim.end(signal.SIGKILL) == -signal.SIGKILL
    before = records(first)
    assert survivor.end(seconds=500) == 0, survivor.printed
    check_states(first, before, TRIALS, uri)


def check_one_end(both: list[Command], first: Path, uri: str) -> None:
    """Both have ended well, with every trial tried once and one outcome."""
    deadline = time.monotonic() + 500
    for command in both:
        assert command.end(seconds=max(1.0, deadline - time.monotonic())) == 0, command.printed
    found = records(first)
    assert [record.state for record in found] == ["complete"] * TRIALS
    assert len({record.recipe.key for record in found if record.recipe}) == TRIALS
    runs = tracked(first, uri)
    assert {key for key in runs if key.startswith("trial-")} == {f"trial-{record.number}" for record in found}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert {run.data.tags.get("mlflow.parentRunId") for key, run in runs.items() if key != "study"} == {
        runs["study"].info.run_id
    }
    assert sum("another driver has concluded" in command.printed for command in both) == 1
    assert all("improvement over the best single-task models" in command.printed for command in both)


def test_two_drivers_end_one_study_with_the_same_outcome(tmp_path: Path, started: Callable[..., Command]) -> None:
    first, second, uri = places(tmp_path)
    check_one_end([started(first, "--join"), started(second, "--join")], first, uri)


def test_a_database_that_is_away_makes_neither_driver_take_the_other_for_dead(
    tmp_path: Path, started: Callable[..., Command], postgres: Postgres
) -> None:
    storage = postgres.database("optuna")
    first, second, uri = places(tmp_path, storage)
    folder = folder_of(first / "mtl_search_runs")
    both = [started(first, "--join"), started(second, "--join")]
    both[0].wait_until(lambda: folder.exists and len(drivers_at_work(folder, storage)) == 2)
    postgres.crash()
    time.sleep(AWAY)
    postgres.start()
    check_one_end(both, first, uri)
    for command in both:
        assert command.printed.count("the database of search.storage is away, and is waited for 10 min") == 1
        assert command.printed.count("the database of search.storage is back") == 1
