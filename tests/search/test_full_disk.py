"""A disk that fills up in the middle of a study: a clear end, nothing corrupted, and on when there is room again."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from driver_processes import Command, check_states, in_mid_trial, records
from small_studies import study_of, write_study
from trapped_backbone import SLOW

JOINT = {"epochs": 15, "batch_size": SLOW, "optimizer": {"adamw": {"lr": {"float": [1e-4, 1e-2], "log": True}}}}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    disk = tmp_path / "mtl_search_runs"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=False)
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return filler


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_full_disk_ends_a_study_clearly_and_it_goes_on_when_there_is_room(
    tmp_path: Path, small_disk: Path, started: Callable[..., Command]
) -> None:
    write_study(tmp_path, study_of(tmp_path, 4, JOINT))
    command = started(tmp_path)
    command.wait_until(in_mid_trial(tmp_path))
    filler = fill(small_disk)
    code = command.end()
    assert code in (1, 2), command.printed
    assert "Traceback" not in command.printed, command.printed
    assert "error: " in command.printed
    assert "pace" in command.printed.rpartition("error: ")[2], command.printed  # no space left
    filler.unlink()
    before = records(tmp_path)
    again = started(tmp_path, "--resume")
    assert again.end() == 0, again.printed
    check_states(tmp_path, before, 4)
