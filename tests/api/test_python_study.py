"""A study from Python on a real Ray, all of it objects: run, looked at, resumed, opened again, its winner trained."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris
from torch import Tensor, nn

import mtl_search
from mtl_search.cli import main
from mtl_search.errors import ConfigError, StudyError

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("cluster")]


class ByLoss(mtl_search.Weighting):
    """Weights in proportion to a power of the losses."""

    def __init__(self, power: float) -> None:
        self.power = power

    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        raised = losses**self.power
        return raised * (len(losses) / raised.sum())


def flowers() -> pd.DataFrame:
    frame = load_iris(as_frame=True).frame
    return frame.rename(columns={"target": "species", "petal width (cm)": "petal"})


def blocks(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Sequential(nn.Linear(3, 8), nn.ReLU()), nn.Linear(8, 8))


def pieces(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "flowers",
        "data": flowers(),
        "tasks": {
            "species": {"kind": "classification", "target": "species"},
            "petal": {"kind": "regression", "target": "petal"},
        },
        "backbone": blocks(),
        "space": {
            "weighting": [ByLoss(2.0), "fixed"],
            "single_task": {"epochs": 2, "optimizer": {"adamw": {"lr": 0.01}}},
            "joint": {"epochs": 2, "optimizer": {"adamw": {"lr": {"float": [0.001, 0.1], "log": True}}}},
        },
        "search": {"stopper": "none", "baseline_seeds": 2, "repeats": {"trials": 1, "runs": 1}},
        "resources": {"concurrent_trials": 1},
        "storage": str(folder / "runs"),
        "tracking": {"uri": f"sqlite:///{folder / 'mlflow.db'}"},
        "verbose": False,
    } | changes


def alone_in(study: mtl_search.StudyResult, how: str) -> dict[str, tuple[str, str]]:
    """Metric and best epoch of the default recipe's single-task models by task and seed, of those that came so."""
    log = (study.folder / "search.log").read_text(encoding="utf-8")
    lines = re.findall(rf"single-task (\w+(?:, seed \d)?): \w+ ([\d.]+) \(best epoch (\d), {how}\)", log)
    return {who: (figure, epoch) for who, figure, epoch in lines}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    place = tmp_path_factory.mktemp("python")
    (place / "mlflow.db").write_bytes(empty_database.read_bytes())
    return place


@pytest.fixture(scope="module")
def study(folder: Path, cluster: None) -> mtl_search.StudyResult:
    return mtl_search.run_study(**pieces(folder), trials=2)


def test_frames_tell_of_every_trial_task_and_baseline(study: mtl_search.StudyResult) -> None:
    trials = study.trials
    assert trials.index.tolist() == [0, 1]
    assert trials["state"].tolist() == ["complete"] * 2
    assert trials["weighting"].str.startswith("object:ByLoss-").tolist() == [True, False]
    best = study.best
    assert trials["improvement"].max() == pytest.approx(best.improvement)
    assert trials.loc[best.number, "metrics.petal"] == pytest.approx(study.tasks.loc["petal", "validation"])
    assert study.baselines.index.tolist() == ["species", "petal"]
    assert study.outcome.number == best.number
    assert best.folder.is_dir()


def test_the_log_tells_how_it_went_though_nothing_was_shown(study: mtl_search.StudyResult) -> None:
    log = (study.folder / "search.log").read_text(encoding="utf-8")
    ended = "the search is over; next: up to 1 repeat, controls"
    for words in ("single-task petal: rmse ", "; 4 of 4\n", " 2 of 2 ", ended):
        assert words in log


def test_files_hold_names_and_no_pickle(study: mtl_search.StudyResult) -> None:
    written = json.loads((study.folder / "study.json").read_text())
    assert next(iter(written["backbone"])).startswith("object:Blocks-")
    assert not [path for path in study.folder.rglob("*.pkl") if "ray" not in path.relative_to(study.folder).parts]


def test_model_predicts_and_exports_where_its_objects_are(study: mtl_search.StudyResult, tmp_path: Path) -> None:
    rows = flowers().drop(columns=["species", "petal"]).tail(5)
    said = study.predict(rows)
    assert said.index.tolist() == rows.index.tolist()
    assert said.columns.tolist() == ["species", "species_probabilities", "petal"]
    assert len(study.model()(torch.tensor(rows.to_numpy(), dtype=torch.float32), torch.empty(5, 0).long())) == 2
    report = study.export(tmp_path / "model", formats=["pt2", "onnx"])
    assert {"model.pt2", "model.onnx"} <= set(report.files)


@pytest.mark.slow
def test_resume_with_the_same_objects_goes_on_and_with_others_does_not(
    study: mtl_search.StudyResult, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = mtl_search.run_study(**pieces(folder, verbose=True), trials=3, resume=True)
    assert len(more.trials) == 3
    lines = capsys.readouterr().out.splitlines()  # where Python's output is not the process's, as in a notebook
    assert [line for line in lines if line.startswith("trial   2 complete")]
    assert len(lines) < 20
    with pytest.raises(StudyError, match="was begun with another backbone"):
        mtl_search.run_study(**pieces(folder, backbone=blocks(1)), trials=3, resume=True)
    with pytest.raises(StudyError, match="study flowers exists"):
        mtl_search.run_study(**pieces(folder), trials=3)


def test_another_process_needs_the_blocks_again_and_only_their_structure(
    study: mtl_search.StudyResult, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["export", "flowers", "--output", str(folder / "runs"), "--to", str(tmp_path / "model")]) == 2
    assert "needs the Python object that the study was given" in capsys.readouterr().err
    opened = mtl_search.open_study("flowers", storage=folder / "runs")
    with pytest.raises(ConfigError, match="open_study"):
        opened.model()
    again = mtl_search.open_study(study.folder, backbone=blocks(5))
    pd.testing.assert_frame_equal(again.predict(flowers().head(3)), study.predict(flowers().head(3)))


@pytest.mark.slow
def test_winner_is_trained_longer_as_a_study_of_its_own(study: mtl_search.StudyResult) -> None:
    trained = mtl_search.train(study=study, trial=0, epochs=3, verbose=False)
    assert trained.name == "flowers-train"
    assert len(trained.trials) == 1
    assert trained.best.recipe.joint.epochs == 3
    assert trained.best.recipe.weighting == mtl_search.Recipe.from_dict(study.recipe_of(0)).weighting
    # The default recipe's single-task models are the study's; what counts in the study may be a control of its winner.
    found = alone_in(trained, "from cache")
    assert len(found) == 4
    assert found.items() <= alone_in(study, r"[\d.]+ s").items()
    for task in ("species", "petal"):
        figures = [float(figure) for who, (figure, _) in found.items() if who.startswith(task)]
        assert trained.baselines.loc[task, "validation"] == pytest.approx(sum(figures) / 2, abs=1e-4)
