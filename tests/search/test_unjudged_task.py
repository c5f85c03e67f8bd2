"""A study whose validation labels leave a task's metric undefined: the task is learned, and judged nowhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from small_studies import folder_of, run_here, study_of

from mtl_search.analysis.overview import Overview
from mtl_search.errors import ConfigError
from mtl_search.report.summary import summary
from mtl_search.report.terminal import print_report
from mtl_search.results.caveats import caveats
from mtl_search.validation.prepare import prepare
from mtl_search.validation.study_file import load_study

pytestmark = pytest.mark.timeout(600)
REASON = "tasks.kind.metric: auroc is not defined on the validation labels (it gives 0 for perfect and for wrong ones)"


def study(place: Path, **search: Any) -> dict[str, Any]:
    iris = load_iris(as_frame=True)
    frame = pd.DataFrame(iris.data.to_numpy(), columns=["sl", "sw", "pl", "pw"])
    frame["kind"] = (iris.target == 2).to_numpy().astype(int)
    frame["part"] = np.where(np.arange(150) % 5 == 0, "test", "train")
    frame.loc[:29, "part"] = "validation"  # all of the first kind
    frame.to_csv(place / "iris.csv", index=False)
    raw = study_of(place, 2, {"epochs": 2, "batch_size": 32, "optimizer": {"adamw": {"lr": 0.01}}}, **search)
    raw["data"] = {"source": {"table": {"path": str(place / "iris.csv"), "split_by": "part", "inputs": ["sl", "sw"]}}}
    raw["tasks"] = {
        "kind": {"kind": "binary", "target": "kind", "metric": "auroc"},
        "petal": {"kind": "regression", "target": "pw"},
    }
    return raw


def test_the_other_task_decides_and_the_study_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = study(tmp_path)
    notes = prepare(load_study({**raw, "storage": str(tmp_path / "runs")})).notes
    assert any(note.startswith(f"{REASON}: the task is not judged") for note in notes)
    outcome = run_here(tmp_path / "runs", raw)
    kind, petal = outcome.tasks["kind"], outcome.tasks["petal"]
    assert (kind.judged, kind.weight, kind.metric, kind.test, kind.worse) == (False, 0.0, "loss", None, False)
    assert outcome.improvement == pytest.approx(petal.gain)
    assert outcome.repeated is not None
    assert petal.repeated is not None
    assert outcome.repeated.mean == pytest.approx(petal.repeated.mean)
    assert outcome.test_improvement == pytest.approx(petal.test_gain)
    assert outcome.undefined == ()
    assert "not judged, since their metric is not defined on the validation labels: kind" in caveats(outcome)
    lines = summary("tiny", outcome, (), [])
    assert {"kind:", "petal:"} <= {line.split()[0] for line in lines if line.startswith("  ")}
    print_report(folder_of(tmp_path / "runs"))
    assert "not judged" in capsys.readouterr().out
    assert Overview(folder_of(tmp_path / "runs")).improvements.keys() == {0, 1}


def test_it_is_no_objective(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"search\.objective: must be a task whose metric is defined .* 'kind'"):
        prepare(load_study(study(tmp_path, objective="kind")))
