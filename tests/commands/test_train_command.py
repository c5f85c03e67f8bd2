"""``mtl-search train``: a trial, a winner or a file becomes a study of one trial, and says so where it cannot."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_studies import MadeUp
from tiny_studies import SOURCE, TASKS

from mtl_search.cli import main
from mtl_search.commands.train import _loaded, add_arguments
from mtl_search.export.bundle import export_model
from mtl_search.results.outcome import Outcome
from mtl_search.study_store.folder import StudyFolder

pytestmark = pytest.mark.timeout(600)
STUDY: dict[str, Any] = {
    "name": "iris",
    "data": {"source": SOURCE},
    "tasks": TASKS,
    "backbone": {"mlp": {"width": 8, "depth": 2}},
    "space": {
        "sharing": [{"hard": {"depth": {"int": [1, 2]}}}, "none"],
        "transfer": ["parameters", "features"],
        "base": {"checkpoint": {"path": "base.pt"}},
        "fusion": "ties",
        "single_task": {"epochs": 1},
        "joint": {"epochs": 2, "optimizer": {"adamw": {"lr": {"float": [0.01, 0.1], "log": True}}}},
    },
    "search": {
        "trials": 2,
        "sampler": "random",
        "stopper": {"asha": {"grace": 1}},
        "baseline_seeds": 1,
        "repeats": {"runs": 0},
    },
    "resources": {"concurrent_trials": 1},
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> Path:
    import torch
    from torch import nn

    from mtl_search.models.backbones.mlp import Mlp

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    torch.save(nn.ModuleList(Mlp(width=8, depth=2).blocks((3,))).state_dict(), "base.pt")
    (tmp_path / "iris.yaml").write_text(yaml.safe_dump(STUDY))
    return tmp_path


def folder(name: str) -> StudyFolder:
    return StudyFolder(Path("mtl_search_runs").resolve(), name)


def outcome(name: str) -> Outcome:
    written = folder(name).read_outcome()
    assert written is not None
    return Outcome.from_dict(written)


@pytest.mark.slow
def test_a_trial_and_an_exported_recipe_are_trained_as_they_were_in_the_search(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "iris.yaml", "--local"]) == 0
    assert main(["train", "--trial", "1", "iris", "--epochs", "3", "--name", "second", "--local"]) == 0
    assert "second: improvement over the best single-task models" in capfd.readouterr().out
    (record,) = folder("second").records("journal")
    tried = folder("iris").records("journal")[1].recipe
    assert record.recipe is not None
    assert tried is not None
    assert record.recipe.joint.epochs == 3
    assert record.recipe.sharing == tried.sharing
    export_model(folder("iris"), place / "model")
    assert main(["train", "model/recipe.yaml", "--study", "iris.yaml", "--local"]) == 0
    assert outcome("iris-train").improvement == pytest.approx(outcome("iris").improvement)
    assert main(["train", "--best", "iris"]) == 2
    assert "study iris-train exists" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "train: needs a recipe: RECIPE.yaml, --best STUDY, or --trial N STUDY"),
        (["iris.yaml"], "space.sharing: must be fixed, with no domain and no list of variants, to train one recipe"),
        (["iris.yaml", "--study", "iris.yaml"], "--study: has no effect: the file is a study of its own"),
        (["recipe.yaml"], "--study: is needed beside a recipe file"),
        (["recipe.yaml", "--study", "iris.yaml"], "space.weightng: is not a known key"),
        (["--best", "iris"], "no study 'iris'"),
        (["--trial", "3"], "train: needs one study: --best STUDY, or --trial N STUDY"),
        (["--best", "iris", "recipe.yaml"], "train: needs one study"),
    ],
)
def test_mistakes_are_told(place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    (place / "recipe.yaml").write_text(yaml.safe_dump({"weightng": "fixed"}))
    assert main(["train", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_study_of_another_folder_is_trained_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = MadeUp(tmp_path / "there" / "mtl_search_runs", 2, 12).end().folder
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    here = str(tmp_path / "here")
    for words, storage in (([], made.storage), (["--output", here], here)):
        loaded, _ = _loaded(parser.parse_args(["--best", str(made.path), *words]))
        assert loaded.config.storage == str(storage)
