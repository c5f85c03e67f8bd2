"""The whole path as a user walks it: search, report, export, each by the command line in its own process."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import mlflow
import pandas as pd
import pytest

mtl_search = [sys.executable, "-m", "mtl_search.cli"]


@pytest.mark.timeout(600)
def test_quickstart_is_searched_reported_exported_and_registered(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*mtl_search, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return done.stdout

    said = run("search", "quickstart", "--trials", "1")
    assert "quickstart: improvement over the best single-task models" in said
    assert all(f"  {task}: " in said for task in ("digit", "ink_left", "ink_right"))
    assert "then open http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning" in said
    log = (tmp_path / "mtl_search_runs/studies/quickstart/search.log").read_text(encoding="utf-8")
    shown = [line for line in said.splitlines() if line.startswith(("single-task", "trial", "repeat"))]
    assert [line for line in shown if line not in log] == []
    assert sum("; 9 of 9" in line or " 1 of 1 " in line for line in shown) == 2
    assert "best recipe" in run("report", "quickstart")
    assert "wrote" in run("export", "quickstart", "--to", "model")

    outcome = json.loads((tmp_path / "mtl_search_runs/studies/quickstart/outcome.json").read_text())
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = mlflow.search_runs(experiment_names=["quickstart"])
    assert isinstance(runs, pd.DataFrame)
    kinds = Counter(runs["tags.kind"])
    assert (kinds["study"], kinds["trial"]) == (1, 1)
    assert kinds["baseline"] >= 3 * 9, "the default recipe's on six seeds, and tuned ones"
    assert kinds["control"] >= 2 * 9, "two forms, three tasks, three seeds"
    assert kinds["repeat"] == 3 * len(outcome["candidates"])
    assert set(runs["status"]) == {"FINISHED"}
    parent = runs[runs["tags.kind"] == "study"].iloc[0]
    assert parent["metrics.improvement"] == pytest.approx(outcome["improvement"])

    sample = pd.read_json(tmp_path / "model" / "sample_input.json", orient="columns", typ="series")["dataframe_split"]
    rows = pd.DataFrame(sample["data"], columns=sample["columns"])
    registered = mlflow.pyfunc.load_model("models:/quickstart@champion").predict(rows)
    exported = mlflow.pyfunc.load_model(str(tmp_path / "model" / "mlflow_model")).predict(rows)
    pd.testing.assert_frame_equal(registered, exported)
