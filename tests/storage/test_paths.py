"""Storage: folders and URLs look alike, files are whole, and a store that is away or refuses is said."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from s3_server import S3

from mtl_search.errors import DamagedError, StorageError
from mtl_search.storage import remote
from mtl_search.storage.checkpoint import (
    CHECKPOINT_FILE,
    is_intact,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from mtl_search.storage.files import read_json, remove_files, write_json, write_sealed
from mtl_search.storage.paths import StoragePath, local_copy, probe, storage_path
from mtl_search.storage.remote import RemotePath, _refuses

CPU = torch.device("cpu")
URL = "s3://bucket/some/folder"


@pytest.fixture(params=["folder", "s3", "memory"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> StoragePath:
    """The same of every kind: a folder, pyarrow's own client, and fsspec's for a scheme that pyarrow does not know."""
    if request.param == "s3":
        request.getfixturevalue("s3")
    urls = {"folder": str(tmp_path), "s3": URL, "memory": f"memory://{tmp_path.name}/x"}
    return storage_path(urls[request.param])


def test_files_are_written_read_listed_and_removed_alike(home: StoragePath) -> None:
    write_json(home / "a" / "one.json", {"x": [1, float("inf")]})
    write_sealed(home / "b" / "two.json", {"y": 2})
    assert read_json(home / "a" / "one.json") == {"x": [1, float("inf")]}
    assert read_json(home / "b" / "two.json") == {"y": 2}
    assert sorted(str(found) for found in home.glob("*/*.json")) == [f"{home}/a/one.json", f"{home}/b/two.json"]
    remove_files(home / "a", "one.json", "never there")
    assert not (home / "a" / "one.json").exists()
    with pytest.raises(FileNotFoundError):
        read_json(home / "a" / "one.json")
    (home / "a" / "one.json").unlink(missing_ok=True)
    probe(home)
    assert [each.name for each in home.glob("*.probe*")] == []


def test_models_and_checkpoints_are_written_read_and_dropped_alike(home: StoragePath) -> None:
    tensors = {"w": torch.randn(30), "n": torch.tensor(2)}
    save_tensors(home / "m.safetensors", tensors)
    assert torch.equal(load_tensors(home / "m.safetensors")["w"], tensors["w"])
    save_tensors(home / "m.safetensors", {"w": torch.ones(30), "n": torch.tensor(2)})
    assert torch.equal(load_tensors(home / "m.safetensors")["w"], torch.ones(30))
    assert load_checkpoint(home, CPU) is None
    save_checkpoint(home, {"epoch": 3, "w": tensors["w"]})
    loaded = load_checkpoint(home, CPU)
    assert loaded is not None
    assert torch.equal(loaded["w"], tensors["w"])
    remove_files(home, CHECKPOINT_FILE)
    assert load_checkpoint(home, CPU) is None


def _model(home: Path) -> object:
    try:
        return load_tensors(home / "m.safetensors")["w"].tolist()
    except DamagedError:
        return None


def _checkpoint(home: Path) -> object:
    return load_checkpoint(home, CPU)


def _result(home: Path) -> object:
    try:
        found = read_json(home / "result.json")
    except DamagedError:
        return None
    return found.get("score"), found.get("kind")


@pytest.mark.parametrize(
    ("name", "read"), [("m.safetensors", _model), ("checkpoint.pt", _checkpoint), ("result.json", _result)]
)
def test_a_file_with_a_flipped_bit_or_cut_short_is_never_taken_for_what_was_written(
    tmp_path: Path, name: str, read: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    save_tensors(tmp_path / "m.safetensors", {"w": torch.randn(8)})
    save_checkpoint(tmp_path, {"epoch": 3})
    write_sealed(tmp_path / "result.json", {"score": 0.25, "kind": "joint"})
    whole, written = (tmp_path / name).read_bytes(), read(tmp_path)
    assert written is not None
    for position in range(0, len(whole), 1 + len(whole) // 200):
        flipped = bytes([whole[position] ^ (1 << position % 8)])
        for content in (whole[:position] + flipped + whole[position + 1 :], whole[:position]):
            (tmp_path / name).write_bytes(content)
            assert read(tmp_path) in (None, written), position


def test_a_damaged_copy_of_a_remote_model_is_noticed_and_got_again(s3: S3, tmp_path: Path) -> None:
    model = storage_path(URL) / "m.safetensors"
    save_tensors(model, {"w": torch.randn(100)})
    content = s3.read("some/folder/m.safetensors")
    s3.write("some/folder/m.safetensors", content[:-3] + b"abc")
    assert not is_intact(model)
    with pytest.raises(DamagedError, match=r"s3://bucket/some/folder/m.safetensors is damaged"):
        load_tensors(model)
    s3.write("some/folder/m.safetensors", content)
    assert is_intact(model)


def test_a_remote_file_is_got_once(s3: S3) -> None:
    file = storage_path(URL) / "x"
    file.write_bytes(b"abc")
    first = local_copy(file)
    s3.clear()
    assert local_copy(file) == first
    assert first.read_bytes() == b"abc"


def test_a_store_that_is_away_for_a_while_is_waited_for_and_then_said(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PATIENCE", 1.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"cannot write s3://elsewhere/x: "):
        (storage_path("s3://elsewhere") / "x").write_bytes(b"")


def test_a_bucket_that_does_not_exist_is_said_at_once(s3: S3) -> None:
    with pytest.raises(StorageError, match=r"cannot write s3://none/x.*bucket does not exist"):
        probe(storage_path("s3://none/x"))


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write to the storage .*file/runs: Not a directory"):
        probe(tmp_path / "file" / "runs")


def test_a_scheme_that_nobody_knows_is_said() -> None:
    with pytest.raises(StorageError, match=r"cannot use nosuch://x as storage"):
        probe(storage_path("nosuch://x/y"))


def test_texts_become_paths(tmp_path: Path) -> None:
    assert storage_path(f"file://{tmp_path}/a") == tmp_path / "a"
    assert storage_path(str(tmp_path / "a")) == tmp_path / "a"
    found = storage_path("s3://bucket/a/b/")
    assert isinstance(found, RemotePath)
    assert (str(found), found.name, str(found.parent)) == ("s3://bucket/a/b", "b", "s3://bucket/a")


@pytest.mark.parametrize(
    ("words", "refuses"),
    [
        ("When writing key 'runs/a401/403' in bucket 'exp403': AWS Error NETWORK_CONNECTION during PutObject", False),
        ("When writing key 'runs/x' in bucket 'b': AWS Error UNKNOWN (HTTP status 403) during HeadObject", True),
        ("When reading key 'signature/x' in bucket 'forbidden': AWS Error SLOW_DOWN (HTTP status 503)", False),
        ("When reading key 'x' in bucket 'b': AWS Error ACCESS_DENIED during GetObject operation: Access Denied", True),
    ],
)
def test_a_store_that_is_away_is_not_taken_for_one_that_refuses_by_the_names_in_its_answer(
    words: str, refuses: bool
) -> None:
    assert _refuses(words) is refuses
