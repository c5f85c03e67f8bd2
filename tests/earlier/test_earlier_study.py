"""A study and an exported model of an earlier version: both go on working.

``study.tar.xz`` holds what version 0.1.0 left of a study of six trials on iris (``earlier.yaml``), without figures,
logs and tracking, and the exported winner.
"""

import tarfile
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris

from mtl_search import open_study, run_study
from mtl_search.storage.files import read_json
from mtl_search.study_store.folder import StudyFolder

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the archive was unpacked into, which is the working folder."""
    with tarfile.open(Path(__file__).parent / "study.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def flowers() -> pd.DataFrame:
    return load_iris(as_frame=True).data


def test_an_earlier_study_is_reported_and_predicts(earlier: Path) -> None:
    study = open_study("earlier", storage="runs")
    outcome = read_json(earlier / "runs/studies/earlier/outcome.json")
    assert study.best.number == outcome["number"]
    assert study.outcome.repeated is not None
    assert study.outcome.repeated.mean == outcome["repeated"]["mean"]
    assert list(study.trials["state"]) == ["complete"] * 6
    assert {task.weight for task in study.outcome.tasks.values()} == {1.0}
    assert len(study.html(earlier / "report.html").read_text()) > 10_000
    assert set(study.predict(flowers().head())["kind"]) <= {"setosa", "versicolor", "virginica", "0", "1", "2"}


def test_an_earlier_exported_model_gives_what_the_study_gives(earlier: Path) -> None:
    rows = flowers().head(20)
    expected = open_study("earlier", storage="runs").predict(rows)
    served = mlflow.pyfunc.load_model(str(earlier / "exported/mlflow_model")).predict(rows)
    assert list(served["kind"]) == list(expected["kind"])
    np.testing.assert_allclose(served["petal"], expected["petal"], rtol=1e-5)
    program = torch.export.load(earlier / "exported/model.pt2").module()
    numbers = torch.tensor(rows[list(rows.columns[:3])].to_numpy(), dtype=torch.float32)
    kinds, petals = program(numbers, torch.zeros(len(rows), 0, dtype=torch.int32))
    assert kinds.shape == (20, 3)
    np.testing.assert_allclose(petals.numpy(), expected["petal"], rtol=1e-4)


def test_an_earlier_study_goes_on_and_concludes_by_today_s_rules(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{earlier / 'mlflow.db'}")
    folder = StudyFolder(earlier / "runs", "earlier")
    before = {trial.number: (trial.value, trial.job) for trial in folder.records("journal")}
    study = run_study("earlier.yaml", trials=8, resume=True, verbose=False)
    after = folder.records("journal")
    assert len([trial for trial in after if trial.state == "complete"]) == 8
    assert {trial.number: (trial.value, trial.job) for trial in after[:6]} == before
    assert folder.read_config().search.objective_weights == "equal", "its trials were judged so"
    found = study.outcome
    assert {task.weight for task in found.tasks.values()} == {1.0}
    assert any(task.baseline_words for task in found.tasks.values())
    keys = [trial.recipe.key for trial in after if trial.recipe is not None]
    assert len(set(keys[:6])) <= len(set(keys)), "no trial is lost"
