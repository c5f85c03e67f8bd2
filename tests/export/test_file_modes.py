"""Files that others may read as the umask says, whatever wrote them; what may not be read is said."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from finished_studies import Finished

from mtl_search.cli import main
from mtl_search.errors import StorageError
from mtl_search.export.bundle import export_model
from mtl_search.storage.checkpoint import load_model, save_checkpoint, save_model
from mtl_search.storage.files import write_json

NOBODY = 65534


@pytest.fixture(params=[0o022, 0o002, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}


def test_models_and_results_have_the_mode_that_the_umask_gives(tmp_path: Path, umask: int) -> None:
    save_model(tmp_path, {"a": torch.ones(3)})
    save_checkpoint(tmp_path, {"a": torch.ones(3)})
    write_json(tmp_path / "result.json", {})
    assert modes(tmp_path) == dict.fromkeys(("model.safetensors", "checkpoint.pt", "result.json"), 0o666 & ~umask)


def test_an_export_has_the_mode_that_the_umask_gives(tmp_path: Path, umask: int, numbers_study: Finished) -> None:
    to = export_model(numbers_study.folder, tmp_path / "model", ("pt2", "onnx")).folder
    assert set(modes(to).values()) == {0o666 & ~umask}
    assert {path.stat().st_mode & 0o777 for path in (to, to / "mlflow_model")} == {0o777 & ~umask}


@pytest.fixture
def another_user() -> Iterator[None]:
    """A user who is not root, whom nothing is forbidden."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        yield
        os.seteuid(0)
    else:
        yield


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may look into."""
    folder = Path(tempfile.mkdtemp(prefix="mtl_search_modes_"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def locked_model(open_folder: Path) -> Path:
    save_model(open_folder, {"a": torch.ones(3)})
    (open_folder / "model.safetensors").chmod(0)
    return open_folder


@pytest.fixture
def locked_study(open_folder: Path, numbers_study: Finished) -> Iterator[Path]:
    copy = open_folder / "runs" / "studies" / "fitness"
    shutil.copytree(numbers_study.folder.path, copy)
    copy.chmod(0)
    yield copy
    copy.chmod(0o755)


def test_a_model_that_may_not_be_read_is_not_taken_for_a_missing_one(locked_model: Path, another_user: None) -> None:
    with pytest.raises(StorageError, match=r"model\.safetensors cannot be read \(Permission denied\)"):
        load_model(locked_model)


@pytest.mark.parametrize("verb", ["export", "report", "status"])
def test_a_study_that_may_not_be_read_is_said(
    locked_study: Path, another_user: None, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, str(locked_study)]) == 2
    assert capsys.readouterr().err == (
        f"error: {locked_study / 'study.json'}: cannot be read or written (Permission denied)\n"
    )
