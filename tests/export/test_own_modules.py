"""A user's own modules beside the study file: found again by whoever takes up the study, from any folder."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from finished_studies import finish

import mtl_search
from mtl_search.cli import main
from mtl_search.commands.shared import prepared_study
from mtl_search.export.champion import load_champion
from mtl_search.storage.files import read_json
from mtl_search.study_store.folder import StudyFolder
from mtl_search.study_store.user_modules import keep_folders

BLOCKS = """
from torch import nn


def blocks(input_shape, width):
    return [nn.Linear(input_shape[0], width), nn.Linear(width, width)]
"""
ROWS: dict[str, list[Any]] = {"Chins": [5.0], "Situps": [100.0], "Jumps": [60.0]}


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Forgets where modules were found, as a new process does; called again at the end."""
    before = list(sys.path)

    def forget() -> None:
        sys.path[:] = before
        for name in [name for name in sys.modules if name.split(".")[0] == "own_package"]:
            del sys.modules[name]
        importlib.invalidate_caches()

    yield forget
    forget()


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgetful: Callable[[], None]) -> StudyFolder:
    """A finished study whose backbone's package lies beside its file; the working folder is another."""
    place, elsewhere = tmp_path / "beside", tmp_path / "elsewhere"
    (place / "own_package").mkdir(parents=True)
    (place / "own_package" / "__init__.py").touch()
    (place / "own_package" / "net.py").write_text(BLOCKS)
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    raw: dict[str, Any] = {
        "name": "fitness",
        "data": {"source": {"sklearn": {"name": "linnerud", "inputs": list(ROWS)}}},
        "tasks": {name.lower(): {"kind": "regression", "target": name} for name in ("Weight", "Waist")},
        "backbone": {"python": {"function": "own_package.net:blocks", "params": {"width": 8}}},
        "search": {"trials": 1},
        "storage": str(tmp_path / "runs"),
    }
    (place / "fitness.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    prepared_study(str(place / "fitness.yaml"), {})
    folder = finish(tmp_path / "runs", raw, depth=0).folder
    keep_folders(folder, raw)
    forgetful()
    return folder


def test_the_folder_of_a_package_is_kept_and_no_library_s(study: StudyFolder, tmp_path: Path) -> None:
    assert read_json(study.modules_file) == [str(tmp_path / "beside")]
    study.modules_file.unlink()
    keep_folders(study, {"backbone": "torch.nn:Linear", "objective": "never_imported:f", "tracking": "sqlite:///x"})
    assert not study.modules_file.exists()


def test_a_study_by_name_finds_its_modules(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "fitness", "--output", str(study.storage), "--to", "model"]) == 0
    assert "wrote model: README.md" in capsys.readouterr().out


def test_a_study_by_file_finds_the_modules_beside_it(study: StudyFolder, tmp_path: Path) -> None:
    study.modules_file.unlink()  # as an earlier version left it
    assert main(["export", str(tmp_path / "beside" / "fitness.yaml"), "--to", "model"]) == 0
    assert (Path("model") / "model.pt2").exists()


def test_an_opened_study_finds_its_modules(study: StudyFolder) -> None:
    mtl_search.open_study("fitness", storage=study.storage)
    assert load_champion(study).predict(ROWS).keys() == {"weight", "waist"}


def test_a_recipe_of_a_study_is_trained_with_its_modules(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path.cwd() / "recipe.yaml").write_text(yaml.safe_dump({"joint": {"epochs": -1}}))
    assert main(["train", "recipe.yaml", "--study", str(study.path)]) == 2
    assert capsys.readouterr().err == "error: space.joint.epochs: must be at least 0, got -1\n", "and no missing module"
