"""What a study leaves in MLflow: a parent run, its trials nested in it, true states, and nothing said twice."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name

from mtl_search.tracking.entities import clean
from mtl_search.tracking.journal import PARENT
from mtl_search.tracking.tracker import Tracker

PATIENCE = 60.0
Track = Callable[..., Tracker]


def test_study_arrives_as_a_parent_run_with_its_trials_nested(track: Track, seen) -> None:
    with track() as tracker:
        tracker.start_study({"seed": 0, "tasks": ["a", "b"]}, {"mlflow.note.content": "Two tasks."})
        tracker.start_run(
            "0", "trial 0", {"lr": 1e-3, "fusion": "mean", "frozen": None, "norm": True}, {"mode": "joint"}
        )
        tracker.log_metrics("0", {"loss/a": 0.5, "bad": float("nan")}, step=0, time_ms=1_700_000_000_000)
        tracker.log_metrics("0", {"loss/a": 0.25}, step=1, time_ms=1_700_000_001_000)
        tracker.set_tags("0", {"best": True})
        tracker.end_run("0", "FINISHED", {"state": "complete"})
        tracker.end_study("FINISHED", {"improvement": 1.5}, {"winner": "0"})
        assert tracker.flush(PATIENCE) == 0
        study_id = tracker.run_id(None)
        assert (tracker.problem, tracker.rejected) == (None, 0)
    study, trial = seen.runs[PARENT], seen.runs["0"]
    assert (study.info.run_name, trial.info.run_name) == ("study quickstart", "trial 0")
    assert trial.data.tags["mlflow.parentRunId"] == study.info.run_id == study_id
    assert study.data.params == {"seed": "0", "tasks": '["a", "b"]'}
    assert trial.data.params == {"lr": "0.001", "fusion": "mean", "frozen": "null", "norm": "true"}
    assert {"mode": "joint", "best": "true", "state": "complete"}.items() <= trial.data.tags.items()
    assert {"winner": "0", "mlflow.note.content": "Two tasks."}.items() <= study.data.tags.items()
    assert study.data.metrics == {"improvement": 1.5}
    assert seen.curve("0", "loss/a") == [(0, 0.5, 1_700_000_000_000), (1, 0.25, 1_700_000_001_000)]
    assert len(seen.curve("0", "bad")) == 1
    assert seen.states == {PARENT: "FINISHED", "0": "FINISHED"}


def test_text_lies_with_the_run_and_beside_the_database(track: Track, seen, tmp_path: Path) -> None:
    with track() as tracker:
        tracker.start_study({}, {})
        tracker.log_text(None, "recipe/best.yaml", "fusion: sum\n")
        tracker.log_text(None, "recipe/best.yaml", "fusion: mean\n")
        tracker.end_study("FINISHED")
    file = Path(seen.runs[PARENT].info.artifact_uri, "recipe/best.yaml")
    assert file.read_text() == "fusion: mean\n"
    assert file.is_relative_to(tmp_path / "mlartifacts")


def test_times_are_those_of_the_call_not_of_the_delivery(seen, tmp_path: Path) -> None:
    late = Tracker(tmp_path / "journal", seen.uri, "e", "s")
    before = time.time_ns() // 1_000_000
    late.start_study({}, {})
    late.end_study("FINISHED")
    after = time.time_ns() // 1_000_000
    time.sleep(0.3)
    assert late.start().close(PATIENCE) == 0
    info = seen.runs[PARENT].info
    assert before <= info.start_time <= info.end_time <= after


def test_a_resumed_study_finds_the_runs_that_it_speaks_of_and_asks_for_no_others(track: Track, seen) -> None:
    with track() as tracker:
        tracker.start_study({}, {})
        for number in range(6):
            tracker.start_run(f"trial-{number}", f"{number}", {"lr": number}, {})
            if number != 5:  # left running by a driver that was killed
                tracker.end_run(f"trial-{number}", "FINISHED", {})
    before = {key: run.info.run_id for key, run in seen.runs.items()}
    with track() as tracker:
        tracker.start_study({}, {})
        tracker.start_run("trial-2", "2", {"lr": 2}, {})
        tracker.set_tags("trial-3", {"best": True})
        tracker.start_run("trial-6", "6", {"lr": 6}, {})
        assert tracker.flush(PATIENCE) == 0
        assert tracker.rejected == 0
        assert [tracker.run_id(key) for key in (None, "trial-2", "trial-3")] == [
            before[key] for key in (PARENT, "trial-2", "trial-3")
        ]
        assert tracker.run_id("trial-0") is None, "nothing was said of it"
        tracker.end_study("FINISHED")
    after = seen.runs
    assert {key: run.info.run_id for key, run in after.items() if key != "trial-6"} == before
    assert after["trial-3"].data.tags["best"] == "true"
    assert after["trial-6"].data.tags["mlflow.parentRunId"] == before[PARENT]
    assert {key for key, state in seen.states.items() if state == "KILLED"} == {"trial-2", "trial-5", "trial-6"}


def test_no_run_stays_running_when_the_study_has_ended(track: Track, seen) -> None:
    expected = {PARENT: "KILLED", "done": "FINISHED", "failed": "FAILED", "open": "KILLED", "late": "KILLED"}
    with track() as tracker:
        tracker.start_study({}, {})
        for key in expected.keys() - {PARENT}:
            tracker.start_run(key, key, {}, {})
        tracker.end_run("done", "FINISHED")
        tracker.end_run("failed", "FAILED")
        tracker.end_study("KILLED")
        assert tracker.flush(PATIENCE) == 0
        assert seen.states == expected
        tracker.end_run("late", "FINISHED")
    assert seen.states == expected | {"late": "FINISHED"}


def test_resumed_study_opens_the_runs_it_had(track: Track, seen, rejected) -> None:
    for trials in (20, 40):
        with track() as tracker:
            tracker.start_study({"trials": trials, "seed": 0}, {})
            tracker.start_run("0", "trial 0", {"lr": 0.1}, {})
            assert tracker.flush(PATIENCE) == 0
            assert seen.states == {PARENT: "RUNNING", "0": "RUNNING"}
            tracker.end_run("0", "FINISHED")
            tracker.end_study("FINISHED")
        assert seen.states == {PARENT: "FINISHED", "0": "FINISHED"}
    study = seen.runs[PARENT]
    assert study.data.params == {"trials": "20", "seed": "0"}  # MLflow's parameters cannot change
    assert study.data.tags["changed.trials"] == "40"
    assert rejected() == []


def test_study_of_the_same_name_in_another_folder_is_another_study(track: Track, seen) -> None:
    for folder in ("one", "two"):
        with track(folder=folder) as tracker:
            tracker.start_study({}, {})
            tracker.end_study("FINISHED")
    experiment = seen.client.get_experiment_by_name("e")
    assert len(seen.client.search_runs([experiment.experiment_id])) == 2


@pytest.mark.parametrize(("error", "state"), [(RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_study_left_by_an_exception_is_ended(track: Track, seen, error: type[BaseException], state: str) -> None:
    def study() -> None:
        with track() as tracker:
            tracker.start_study({}, {})
            raise error

    with pytest.raises(error):
        study()
    assert seen.states == {PARENT: state}


def test_long_and_odd_names_and_values_arrive_cut_and_cleaned(track: Track, seen) -> None:
    with track() as tracker:
        tracker.start_study({"long": "é" * 9000, "what?": 1, "n" * 300: 2}, {"long": "x" * 9000})
        tracker.log_metrics(None, {f"task/{i}": i for i in range(2500)} | {"../a//b%": 1.0}, 0)
        assert (tracker.flush(PATIENCE), tracker.rejected) == (0, 0)
    data = seen.runs[PARENT].data
    assert data.params == {"long": "é" * 5999 + "…", "what_": "1", "n" * 250: "2"}
    assert data.tags["long"] == "x" * 7999 + "…"
    assert (len(data.metrics), data.metrics["_/a/b_"]) == (2501, 1.0)


@given(st.text(alphabet="ab./: -_%é\n\0", max_size=300))
def test_mlflow_takes_every_cleaned_name(name: str) -> None:
    for check in (_validate_metric_name, _validate_param_name, _validate_tag_name):
        check(clean(name))
    assert 1 <= len(clean(name)) <= 250


def test_new_database_is_made_without_a_word(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mtl_search.tracking.tracker import Tracker\n"
        "with Tracker(Path(sys.argv[1]), sys.argv[2], 'e', 's') as tracker:\n"
        "    tracker.start_study({}, {}); tracker.end_study('FINISHED'); assert tracker.flush(90) == 0, tracker.problem"
    )
    work = tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "-c", code, str(tmp_path / "journal"), f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=work, timeout=2 * PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "new" / "mlflow.db").stat().st_size > 0
    assert list(work.iterdir()) == [], "nothing lands in the working folder"
