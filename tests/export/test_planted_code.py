"""Files from outside that would run code when they are unpickled: each is read, or refused, without running it."""

import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from finished_studies import Finished
from safetensors import SafetensorError

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.study_data import load_data
from mtl_search.errors import ConfigError, DataError, MtlSearchError
from mtl_search.export.bundle import ExportReport
from mtl_search.export.champion import load_champion
from mtl_search.export.programs import PT2_FILE
from mtl_search.export.reopening import program_in, reopen
from mtl_search.extension.extend import extend_model
from mtl_search.storage.checkpoint import MODEL_FILE, StoredTensors, load_checkpoint, load_model
from mtl_search.storage.files import RESULT_FILE, read_json, write_json
from mtl_search.study_store.folder import StudyFolder
from mtl_search.transfer.bases.checkpoint import CheckpointBase


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "code ran"


@pytest.fixture
def trap(marker: Path) -> bytes:
    """A pickle that works: unpickled, it leaves the mark."""
    packed = pickle.dumps(Trap(marker), protocol=2)  # as torch writes it; it warns of others
    pickle.loads(packed)  # noqa: S301
    marker.unlink()
    return packed


@pytest.fixture
def torch_trap(trap: bytes, marker: Path, tmp_path: Path) -> bytes:
    """The same in the form of ``torch.save``."""
    torch.save(Trap(marker), tmp_path / "trap.pt")
    torch.load(tmp_path / "trap.pt", weights_only=False)
    marker.unlink()
    return (tmp_path / "trap.pt").read_bytes()


@pytest.mark.parametrize("form", ["plain", "torch"])
def test_a_planted_checkpoint_is_not_run_and_its_stage_starts_anew(
    form: str, trap: bytes, torch_trap: bytes, marker: Path, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(trap if form == "plain" else torch_trap)
    assert load_checkpoint(tmp_path, torch.device("cpu")) is None
    assert not marker.exists()


def test_planted_cache_entries_are_not_run(trap: bytes, marker: Path, tmp_path: Path) -> None:
    (tmp_path / MODEL_FILE).write_bytes(trap)
    (tmp_path / RESULT_FILE).write_bytes(trap)
    with pytest.raises((SafetensorError, MtlSearchError)):
        load_model(tmp_path)
    with pytest.raises((SafetensorError, MtlSearchError)):
        StoredTensors(tmp_path / MODEL_FILE, torch.device("cpu"))
    with pytest.raises((ValueError, MtlSearchError)):
        read_json(tmp_path / RESULT_FILE)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["base.pt", "base.safetensors"])
def test_a_planted_base_is_refused(name: str, torch_trap: bytes, marker: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(torch_trap)
    with pytest.raises(ConfigError, match=r"base\.checkpoint\.path: must (hold tensors|be a readable checkpoint)"):
        CheckpointBase(str(tmp_path / name)).state(lambda: [torch.nn.Linear(1, 1)], 0)
    assert not marker.exists()


def test_planted_rows_are_refused(trap: bytes, marker: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "rows.npz", "w") as archive:
        header = b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }"
        header = header.ljust(117) + b"\n"
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + trap)
        archive.writestr("y.npy", trap)
    source = {"arrays": {"path": str(tmp_path / "rows.npz")}}
    task = TaskConfig.model_validate({"kind": "binary", "target": "y"})
    with pytest.raises((ConfigError, DataError)):
        load_data(DataConfig.model_validate({"source": source}), {"y": task}, 0)
    assert not marker.exists()


def test_a_planted_model_of_a_study_is_refused(
    table_study: Finished, copied: Callable[[Finished], StudyFolder], trap: bytes, marker: Path
) -> None:
    folder = copied(table_study)
    outcome = read_json(folder.outcome_file)
    write_json(folder.outcome_file, outcome | {"folder": str(folder.trials / "abc")})
    (folder.trials / "abc" / MODEL_FILE).write_bytes(trap)
    with pytest.raises((SafetensorError, MtlSearchError)):
        load_champion(folder)
    assert not marker.exists()


def poisoned(program: Path, torch_trap: bytes) -> None:
    """Put the trap in the place of every part of the program that torch reads by unpickling."""
    with zipfile.ZipFile(program) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(program, "w", zipfile.ZIP_STORED) as archive:
        for name, part in parts.items():
            archive.writestr(name, torch_trap if part.startswith(b"PK") else part)


def test_extending_a_model_runs_none_of_its_programs(
    exported: ExportReport, torch_trap: bytes, marker: Path, tmp_path: Path
) -> None:
    """Loading a ``.pt2`` runs what is in it, so ``extend`` loads none: parameters and structure are in plain files."""
    folder = tmp_path / "from outside"
    shutil.copytree(exported.folder, folder)
    for program in (program_in(folder), folder / PT2_FILE):
        poisoned(program, torch_trap)
    with pytest.raises(Exception):  # noqa: B017, PT011  torch's own, of whatever kind
        torch.export.load(program_in(folder))
    assert marker.exists(), "the trap works"
    marker.unlink()
    (folder / "mlflow_model" / "python_model.pkl").write_bytes(torch_trap)
    assert reopen(folder).name == "census"
    rows = (
        "age,hours,job,code,member,town\n"
        + "\n".join(f"{20 + row},40,nurse,1,True,{'ab'[row % 2]}" for row in range(40))
        + "\n"
    )
    (tmp_path / "more.csv").write_text(rows)
    more = {
        "data": {"source": {"table": {"path": str(tmp_path / "more.csv")}}},
        "tasks": {"town": {"kind": "classification", "target": "town"}},
        "extend": {"method": {"frozen": {"like": "income"}}, "schedule": {"epochs": 1}},
    }
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(more))
    made = extend_model(folder, tmp_path / "more.yaml", tmp_path / "more", lambda _: None)
    assert made.rows
    assert not marker.exists()
