"""A disk that fills up in the middle of a study: a clear end, nothing corrupted, and on when there is room again."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from driver_processes import Command, check_states, in_mid_trial, records
from small_disk import fill, small_disk
from small_studies import study_of, write_study
from trapped_backbone import SLOW

from mtl_search.errors import StorageError
from mtl_search.storage.checkpoint import load_tensors, save_checkpoint, save_tensors
from mtl_search.storage.paths import probe
from mtl_search.study_store.folder import StudyFolder

JOINT = {"epochs": 15, "batch_size": SLOW, "optimizer": {"adamw": {"lr": {"float": [1e-4, 1e-2], "log": True}}}}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "mtl_search_runs") as folder:
        yield folder


def test_what_cannot_be_written_is_said_and_leaves_what_was_there(disk: Path) -> None:
    save_tensors(disk / "model.safetensors", {"w": torch.ones(5000)})
    study = StudyFolder(disk, "tiny")
    study.path.mkdir(parents=True)
    optuna_study = study.optuna_study("journal")
    optuna_study.tell(optuna_study.ask(), 1.0)
    filler = fill(disk)
    with pytest.raises(StorageError, match=r"cannot write .*model.safetensors: no space is left"):
        save_tensors(disk / "model.safetensors", {"w": torch.zeros(5000)})
    with pytest.raises(StorageError, match=r"cannot write .*checkpoint.pt: no space is left"):
        save_checkpoint(disk, {"w": torch.zeros(5000)})
    with pytest.raises(StorageError, match=r"cannot write to the storage .*: No space left on device"):
        probe(disk)

    def write_much() -> None:
        for _ in range(1000):
            optuna_study.tell(optuna_study.ask(), 2.0)

    with pytest.raises(StorageError, match=r"cannot write the study's journal .*No space left.*go on with --resume"):
        write_much()
    assert sorted(path.name for path in disk.iterdir()) == ["filler", "model.safetensors", "studies"]
    assert torch.equal(load_tensors(disk / "model.safetensors")["w"], torch.ones(5000))
    filler.unlink()
    again = study.optuna_study("journal")
    again.tell(again.ask(), 3.0)
    assert study.read_trials("journal")[-1].value == 3.0


@contextmanager
def full(disk: Path) -> Iterator[None]:
    filler = fill(disk)
    yield
    filler.unlink()


@contextmanager
def away(disk: Path) -> Iterator[None]:
    """Something else lies where the trials' folders were, as where a mount has gone."""
    trials = disk / "studies" / "tiny" / "trials"
    trials.rename(disk / "away")
    trials.touch()
    yield
    trials.unlink()
    (disk / "away").rename(trials)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("trouble", "words"), [(full, "pace"), (away, "cannot (write|read) .*Not a directory")])
def test_a_storage_that_cannot_be_written_ends_a_study_clearly_and_it_goes_on_when_it_can(
    trouble: Callable[[Path], AbstractContextManager[None]],
    words: str,
    tmp_path: Path,
    disk: Path,
    started: Callable[..., Command],
) -> None:
    write_study(tmp_path, study_of(tmp_path, 4, JOINT))
    command = started(tmp_path)
    command.wait_until(in_mid_trial(tmp_path))
    with trouble(disk):
        code = command.end()
    assert code in (1, 2), command.printed
    assert "Traceback" not in command.printed, command.printed
    assert "error: " in command.printed
    assert re.search(words, command.printed.rpartition("error: ")[2]), command.printed
    before = records(tmp_path)
    again = started(tmp_path, "--resume")
    assert again.end() == 0, again.printed
    check_states(tmp_path, before, 4)
