"""A study for scripts: one JSON document, whatever numbers came out."""

import json
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from outcomes_by_hand import finished, outcome
from tiny_studies import recipe

from mtl_search.cli import main
from mtl_search.report.document import study_document, to_json
from mtl_search.results.outcome import Outcome
from mtl_search.results.trial_record import TrialRecord


def refuse(constant: str) -> float:
    raise AssertionError(f"{constant} is no JSON")


def test_numbers_that_are_not_finite_become_null() -> None:
    text = to_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": (-float("inf"), "nan", True, None)}})
    assert json.loads(text, parse_constant=refuse) == {
        "a": None,
        "b": [None, 1.5],
        "c": {"d": [None, "nan", True, None]},
    }


def test_the_document_holds_study_trials_and_outcome(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = replace(outcome([-3.0, 1.0]), test_improvement=float("nan"))
    folder = finished(tmp_path, "iris", found)
    trial = folder.optuna_study("journal").ask()
    trial.set_user_attr("recipe", recipe().to_dict())
    folder.optuna_study("journal").tell(trial.number, 1.5)
    assert main(["report", "iris", "--output", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out, parse_constant=refuse)
    assert document == json.loads(to_json(study_document(folder)))
    assert list(document) == ["study", "trials", "outcome"]
    assert document["study"]["ended"] is True
    assert document["study"]["tasks"] == {"task_0": "classification", "task_1": "classification"}
    assert set(document["trials"][0]) == set(TrialRecord.__dataclass_fields__)
    assert document["trials"][0]["recipe"] == recipe().to_dict()
    assert set(document["outcome"]) == {*Outcome.__dataclass_fields__, "optimism", "worse"}
    assert document["outcome"]["test_improvement"] is None
    assert document["outcome"]["worse"] == ["task_0"]
    assert document["outcome"]["optimism"] == pytest.approx(0.3)


def test_a_study_that_has_not_ended_has_no_outcome(tmp_path: Path) -> None:
    document = study_document(finished(tmp_path, "iris", None))
    assert (document["study"]["ended"], document["outcome"]) == (False, None)


def test_the_terminal_report_tells_what_the_outcome_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished(tmp_path, "iris", outcome([-3.0, 1.0, 2.0]))
    trial = folder.optuna_study("journal").ask()
    for name, value in {"recipe": recipe().to_dict(), "worker_seconds": 12.25, "peak_mib": 300.0}.items():
        trial.set_user_attr(name, value)
    folder.optuna_study("journal").tell(trial.number, state=optuna.trial.TrialState.FAIL)
    assert main(["report", str(folder.path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for part in (
        "worker-s peak MiB",
        "12.2 300.0",
        "ALARM: task task_0 does worse than alone: -3.00 % [-4.00, -2.00]",
        "proposal: a trunk each for task_0 | task_1+task_2",
        "(mean of 2 seeds on validation)",
        "challenger: tied and cheaper",
        "mtl-search report iris --html FILE",
    ):
        assert part in said
