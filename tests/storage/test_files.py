"""Files: whole or not at all, and what becomes of a damaged checkpoint."""

import json
import logging
import os
import time
from pathlib import Path

import pytest
import torch

from mtl_search.errors import StorageError
from mtl_search.storage.checkpoint import (
    CHECKPOINT_FILE,
    load_checkpoint,
    load_model,
    save_checkpoint,
    save_model,
)
from mtl_search.storage.files import read_json, remove_files, replace_file, write_json

CPU = torch.device("cpu")


def fail_half_way(path: Path) -> None:
    with replace_file(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"old": True})
    with pytest.raises(StorageError, match=r"cannot write .*result.json: disk full"):
        fail_half_way(path)
    assert read_json(path) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_first_writer_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*result.json: disk full"):
        fail_half_way(tmp_path / "new" / "result.json")
    assert list((tmp_path / "new").iterdir()) == []


def test_what_cannot_be_read_is_the_storage_s_fault(tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()  # as good as a folder that is away: the system refuses
    with pytest.raises(StorageError, match=r"cannot read .*result.json: Is a directory"):
        read_json(tmp_path / "result.json")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")


def test_what_another_writer_is_about_to_put_in_place_stays(tmp_path: Path) -> None:
    """Two drivers may train the same model; the first to end clears up after those that were killed alone."""
    with replace_file(tmp_path / "checkpoint.pt") as theirs:
        theirs.write_text("half of it")
        killed = theirs.with_name(f".checkpoint.pt.{'0' * 32}")
        killed.write_text("left behind")
        os.utime(killed, (0, time.time() - 7200))
        remove_files(tmp_path, "checkpoint.pt")
        assert not killed.exists()
    assert (tmp_path / "checkpoint.pt").read_text() == "half of it"


def test_a_reader_sees_the_old_content_until_the_new_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, 1)
    with replace_file(path) as temporary:
        temporary.write_text("2")
        assert read_json(path) == 1
    assert read_json(path) == 2


def test_a_file_has_the_permissions_that_any_new_file_gets(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_json(tmp_path / "ours", 1)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_numbers_come_back_from_json_to_the_bit(tmp_path: Path) -> None:
    numbers = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, float("inf")]
    write_json(tmp_path / "n", numbers)
    assert read_json(tmp_path / "n") == numbers
    assert json.loads((tmp_path / "n").read_text()) == numbers


def test_a_model_comes_back_to_the_bit(tmp_path: Path) -> None:
    state = {"a.weight": torch.randn(3, 4).t(), "a.steps": torch.tensor(3), "half": torch.randn(2).bfloat16()}
    save_model(tmp_path, state)
    loaded = load_model(tmp_path)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], value) and loaded[name].dtype == value.dtype for name, value in state.items())


def test_without_a_checkpoint_there_is_nothing_to_load(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, CPU) is None
    remove_files(tmp_path, CHECKPOINT_FILE)


def test_a_checkpoint_cut_short_anywhere_counts_as_none_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(tmp_path, {"epoch": 3, "model": {"w": torch.randn(50)}, "history": [{"score": 0.5}]})
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for part in (*range(0, len(whole), 97), len(whole) - 1):
        path.write_bytes(whole[:part])
        with caplog.at_level(logging.WARNING):
            assert load_checkpoint(tmp_path, CPU) is None, part
        assert "starts anew" in caplog.messages[-1]
        assert str(path) in caplog.messages[-1]
    path.write_bytes(whole)
    loaded = load_checkpoint(tmp_path, CPU)
    assert loaded is not None
    assert loaded["epoch"] == 3


def test_a_checkpoint_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    save_checkpoint(tmp_path, {"epoch": Evil()})
    assert load_checkpoint(tmp_path, CPU) is None
    assert not (tmp_path / "ran").exists()


def test_dropping_a_checkpoint_takes_what_kills_left_with_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"epoch": 1})
    save_model(tmp_path, {"w": torch.ones(1)})
    left = tmp_path / ".checkpoint.pt.0123456789abcdef0123456789abcdef"
    left.write_bytes(b"half")
    os.utime(left, (0, time.time() - 7200))
    remove_files(tmp_path, CHECKPOINT_FILE)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
