"""Finished studies of each kind of input, and a fresh MLflow database."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from finished_studies import Finished, census, finish

from mtl_search.export.bundle import ExportReport, export_model
from mtl_search.study_store.folder import StudyFolder

TABLE_TASKS = {
    "income": {"kind": "binary", "target": "income", "positive": "high"},
    "pay": {"kind": "regression", "target": "pay"},
    "likes": {"kind": "multilabel", "target": ["likes_a", "likes_b"]},
    "area": {"kind": "classification", "target": "area"},
}


@pytest.fixture(scope="session")
def table_study(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    place = tmp_path_factory.mktemp("table")
    census(place / "census.csv")
    source = {"path": str(place / "census.csv"), "categorical": ["job", "code", "member"], "missing": "impute"}
    raw = {
        "name": "census",
        "data": {"source": {"table": source}},
        "tasks": TABLE_TASKS,
        "backbone": {"mlp": {"width": 12, "depth": 3}},
    }
    return finish(place / "storage", raw, depth=1)


@pytest.fixture(scope="session")
def image_study(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    raw = {
        "name": "digits",
        "data": {"source": {"sklearn": {"name": "digits", "inputs": ["image"]}}},
        "tasks": {"digit": {"kind": "classification", "target": "target"}},
        "backbone": {"resnet": {"width": 4, "stages": 2}},
    }
    return finish(tmp_path_factory.mktemp("images"), raw, depth=None)


@pytest.fixture(scope="session")
def numbers_study(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    raw = {
        "name": "fitness",
        "data": {"source": {"sklearn": {"name": "linnerud"}}},
        "tasks": {name.lower(): {"kind": "regression", "target": name} for name in ("Weight", "Waist")},
        "backbone": {"mlp": {"width": 8, "depth": 2}},
    }
    return finish(tmp_path_factory.mktemp("numbers"), raw, depth=0)


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Finished], StudyFolder]:
    """A study in a storage that was moved: the outcome names a folder that is gone."""

    def copy(study: Finished) -> StudyFolder:
        target = StudyFolder(tmp_path / "moved", study.folder.name)
        shutil.copytree(study.folder.path, target.path)
        return target

    return copy


@pytest.fixture(scope="session")
def exported(table_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """The table's study with every file there is; for reading only."""
    return export_model(table_study.folder, tmp_path_factory.mktemp("exports") / "deep" / "census", ("pt2", "onnx"))


@pytest.fixture(scope="session")
def exported_images(image_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """The same of the images' study."""
    return export_model(image_study.folder, tmp_path_factory.mktemp("exports") / "digits", ("pt2", "onnx"))
