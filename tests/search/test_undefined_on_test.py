"""A study whose test labels leave a task's metric undefined goes to its end, and says so wherever it shows figures."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from small_studies import folder_of, run_here, study_of

from mtl_search.analysis.overview import Overview
from mtl_search.api.frames import baselines_frame, tasks_frame
from mtl_search.figures.gains import gains
from mtl_search.report.answer import answer_of
from mtl_search.report.document import outcome_document, to_json
from mtl_search.report.html_page import write_html
from mtl_search.report.summary import answer, summary
from mtl_search.report.tables import tasks_of
from mtl_search.report.terminal import print_report
from mtl_search.results.outcome import Outcome
from mtl_search.tracking.measures import outcome_metrics

pytestmark = pytest.mark.timeout(600)
SAID = "Figures on test are over 1 of 2 tasks: the metric of kind is not defined on the test labels."


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study; its test split has no flower of the one kind that is told from the others."""
    place = tmp_path_factory.mktemp("undefined")
    run_here(place / "runs", study(place))
    return place / "runs"


def study(place: Path) -> dict[str, Any]:
    iris = load_iris(as_frame=True)
    frame = pd.DataFrame(iris.data.to_numpy(), columns=["sl", "sw", "pl", "pw"])
    frame["kind"] = (iris.target == 2).to_numpy().astype(int)
    frame["part"] = np.where(np.arange(150) % 5 == 0, "validation", "train")
    frame.loc[:29, "part"] = "test"  # all of the first kind
    frame.to_csv(place / "iris.csv", index=False)
    joint = {"epochs": 2, "batch_size": 32, "optimizer": {"adamw": {"lr": 0.01}}}
    raw = study_of(place, 1, joint, repeats={"trials": 1, "runs": 2}, objective="kind")
    raw["data"] = {"source": {"table": {"path": str(place / "iris.csv"), "split_by": "part", "inputs": ["sl", "sw"]}}}
    raw["tasks"] = {
        "kind": {"kind": "binary", "target": "kind", "metric": "auroc"},
        "petal": {"kind": "regression", "target": "pw"},
    }
    return raw


def test_figures_on_test_are_those_of_the_other_task(storage: Path) -> None:
    outcome = Outcome.from_dict(folder_of(storage).read_outcome() or {})
    kind, petal = outcome.tasks["kind"], outcome.tasks["petal"]
    assert (kind.test, kind.test_baseline, kind.test_gain, kind.repeated_test) == (None, None, None, None)
    assert kind.test_baseline_runs == ()
    assert kind.repeated is not None
    assert petal.test_gain is not None
    assert petal.repeated_test is not None
    assert outcome.repeated_test is not None
    assert asdict(petal.repeated_test) == pytest.approx(asdict(outcome.repeated_test))
    assert outcome.test_improvement == pytest.approx(petal.test_gain)
    assert len(petal.test_baseline_runs) == 2
    assert outcome.undefined == ("kind",)


def test_every_report_names_the_task_that_is_left_out(
    storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(storage)
    overview = Overview(folder)
    outcome = overview.outcome
    assert outcome is not None
    assert SAID in outcome.to_markdown()
    assert "| kind | auroc | – | – | – |" in outcome.to_markdown()
    assert answer("tiny", outcome)[-1] == SAID
    assert "  kind:  auroc on test not defined; validation" in "\n".join(summary("tiny", outcome, (), [], 40))
    (fact,) = (fact for fact in answer_of(overview).facts if fact.name == "On test")
    assert fact.sentence.endswith(SAID)
    table = tasks_of(overview)
    assert table is not None
    assert table.rows[0][-3:] == ("–", "–", "–")
    print_report(folder)
    assert SAID in capsys.readouterr().out
    assert "not defined" in json.dumps(gains(overview).spec)
    write_html(folder, tmp_path / "report.html")


def test_numbers_of_the_task_are_missing_and_never_zero(storage: Path) -> None:
    outcome = Outcome.from_dict(folder_of(storage).read_outcome() or {})
    found = json.loads(to_json(outcome_document(outcome)))["tasks"]["kind"]
    assert (found["test"], found["test_gain"], found["test_baseline_runs"]) == (None, None, [])
    for frame in (tasks_frame(outcome), baselines_frame(outcome)):
        assert math.isnan(frame.loc["kind", "test"])
        assert frame["test"].dtype == np.float64
        assert not math.isnan(frame.loc["petal", "test"])
    names = outcome_metrics(outcome)
    assert "test/kind/auroc" not in names
    assert "test/petal/rmse" in names


def test_without_any_task_on_test_there_is_no_improvement_there(storage: Path) -> None:
    whole = Outcome.from_dict(folder_of(storage).read_outcome() or {})
    gone = {"test": None, "test_baseline": None, "test_gain": None, "test_baseline_runs": (), "repeated_test": None}
    tasks = {name: replace(task, **gone) for name, task in whole.tasks.items()}
    outcome = replace(whole, tasks=tasks, test_improvement=None, repeated_test=None)
    assert Outcome.from_dict(json.loads(json.dumps(outcome.to_dict()))) == outcome
    said = "Figures on test are missing: the metric of kind, petal is not defined on the test labels."
    assert answer("tiny", outcome)[-1] == said
    assert "**–** on test" in outcome.to_markdown()
    assert "test/improvement" not in outcome_metrics(outcome)
