"""The driver's own files in a bucket: what was pushed is there on another machine, however the process ended."""

from pathlib import Path

import pytest
from s3_server import S3

from mtl_search.storage.paths import storage_path
from mtl_search.study_store import storage_sync as mirrors
from mtl_search.study_store.folder import StudyFolder
from mtl_search.study_store.storage_sync import StorageSync

HOME = "s3://bucket/runs/studies/tiny"


@pytest.fixture(autouse=True)
def working_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would stay until this process ends, and here many a machine is one process."""
    monkeypatch.setattr(mirrors, "scratch", lambda: tmp_path)


def opened() -> StorageSync:
    """As another machine sees it: with an empty working folder."""
    location = storage_path(HOME)
    assert not isinstance(location, Path)
    return StorageSync(location)


def test_what_was_pushed_is_on_another_machine(s3: S3) -> None:
    storage_sync = opened()
    (storage_sync.path / "clock.json").write_text("{}")
    (storage_sync.path / "tracking").mkdir()
    (storage_sync.path / "tracking" / "events.jsonl").write_text("a\nb\n")
    (storage_sync.path / "ray").mkdir()
    (storage_sync.path / "ray" / "state").touch()
    (storage_sync.path / "lock").touch()
    storage_sync.push()
    other = opened()
    assert (other.path / "clock.json").read_text() == "{}"
    assert (other.path / "tracking" / "events.jsonl").read_text() == "a\nb\n"
    assert not (other.path / "ray").exists()
    assert not (other.path / "lock").exists()


def test_a_growing_file_is_pushed_by_its_new_lines_alone(s3: S3) -> None:
    storage_sync = opened()
    journal = storage_sync.path / "optuna.journal"
    pushed = []
    for text in ("one\n", "two\nthr", "ee\n", ""):
        with journal.open("a") as file:
            file.write(text)
        storage_sync.push()
        pushed.append([s3.read(key).decode() for key in s3.names()])
    assert pushed == [["one\n"], ["one\n", "two\n"], ["one\n", "two\n", "three\n"], ["one\n", "two\n", "three\n"]]
    assert (opened().path / "optuna.journal").read_text() == "one\ntwo\nthree\n"


def test_many_small_parts_become_few_and_the_next_process_goes_on_with_them(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "_MOST_PARTS", 4)
    written = ""
    for _ in range(3):
        storage_sync = opened()
        for number in range(7):
            with (storage_sync.path / "optuna.journal").open("a") as file:
                file.write(f"line {number}\n")
            written += f"line {number}\n"
            storage_sync.push()
        assert (opened().path / "optuna.journal").read_text() == written
    assert sum(not name.endswith("/") for name in s3.names()) <= 12  # of 21


def test_a_kill_in_the_middle_of_merging_parts_loses_and_doubles_nothing(s3: S3) -> None:
    storage_sync = opened()
    for text in ("one\n", "two\n", "three\n"):
        with (storage_sync.path / "optuna.journal").open("a") as file:
            file.write(text)
        storage_sync.push()
    first = s3.names()[0]
    s3.write(first, b"one\ntwo\nthree\n")  # merged; the parts that it took in are not deleted yet
    assert (opened().path / "optuna.journal").read_text() == "one\ntwo\nthree\n"


def test_a_thread_pushes_within_a_second_or_so(s3: S3) -> None:
    import time

    storage_sync = opened()
    (storage_sync.path / "study.json").write_text("1")
    with storage_sync.running():
        until = time.monotonic() + 20
        while not s3.names():
            assert time.monotonic() < until
            time.sleep(0.1)
        (storage_sync.path / "outcome.json").write_text("2")
    assert (opened().path / "outcome.json").read_text() == "2"


def test_a_study_in_a_bucket_is_named_by_its_url_or_by_its_name(s3: S3) -> None:
    s3.write("runs/studies/tiny/study.json", b"{}")
    assert StudyFolder.at(HOME, "elsewhere").exists
    assert StudyFolder.at("tiny", "s3://bucket/runs").exists
    assert not StudyFolder.at("other", "s3://bucket/runs").exists
