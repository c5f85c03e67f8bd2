"""The driver's own files in a bucket: what was pushed is there on another machine, however the process ended."""

from pathlib import Path

import pytest
from s3_server import S3

from mtl_search.search import mirror as mirrors
from mtl_search.search.folder import StudyFolder
from mtl_search.search.mirror import Mirror
from mtl_search.storage import place

HOME = "s3://bucket/runs/studies/tiny"


@pytest.fixture(autouse=True)
def working_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would stay until this process ends, and here many a machine is one process."""
    monkeypatch.setattr(mirrors, "scratch", lambda: tmp_path)


def opened() -> Mirror:
    """As another machine sees it: with an empty working folder."""
    home = place(HOME)
    assert not isinstance(home, Path)
    return Mirror(home)


def test_what_was_pushed_is_on_another_machine(s3: S3) -> None:
    mirror = opened()
    (mirror.path / "clock.json").write_text("{}")
    (mirror.path / "tracking").mkdir()
    (mirror.path / "tracking" / "events.jsonl").write_text("a\nb\n")
    (mirror.path / "ray").mkdir()
    (mirror.path / "ray" / "state").touch()
    (mirror.path / "lock").touch()
    mirror.push()
    other = opened()
    assert (other.path / "clock.json").read_text() == "{}"
    assert (other.path / "tracking" / "events.jsonl").read_text() == "a\nb\n"
    assert not (other.path / "ray").exists()
    assert not (other.path / "lock").exists()


def test_a_growing_file_is_pushed_by_its_new_lines_alone(s3: S3) -> None:
    mirror = opened()
    journal = mirror.path / "optuna.journal"
    pushed = []
    for text in ("one\n", "two\nthr", "ee\n", ""):
        with journal.open("a") as file:
            file.write(text)
        mirror.push()
        pushed.append([s3.read(key).decode() for key in s3.names()])
    assert pushed == [["one\n"], ["one\n", "two\n"], ["one\n", "two\n", "three\n"], ["one\n", "two\n", "three\n"]]
    assert (opened().path / "optuna.journal").read_text() == "one\ntwo\nthree\n"


def test_many_small_parts_become_few_and_the_next_process_goes_on_with_them(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "_MOST_PARTS", 4)
    written = ""
    for _ in range(3):
        mirror = opened()
        for number in range(7):
            with (mirror.path / "optuna.journal").open("a") as file:
                file.write(f"line {number}\n")
            written += f"line {number}\n"
            mirror.push()
        assert (opened().path / "optuna.journal").read_text() == written
    assert sum(not name.endswith("/") for name in s3.names()) <= 12  # of 21


def test_a_kill_in_the_middle_of_merging_parts_loses_and_doubles_nothing(s3: S3) -> None:
    mirror = opened()
    for text in ("one\n", "two\n", "three\n"):
        with (mirror.path / "optuna.journal").open("a") as file:
            file.write(text)
        mirror.push()
    first = s3.names()[0]
    s3.write(first, b"one\ntwo\nthree\n")  # merged; the parts that it took in are not deleted yet
    assert (opened().path / "optuna.journal").read_text() == "one\ntwo\nthree\n"


def test_a_thread_pushes_within_a_second_or_so(s3: S3) -> None:
    import time

    mirror = opened()
    (mirror.path / "study.json").write_text("1")
    with mirror.running():
        until = time.monotonic() + 20
        while not s3.names():
            assert time.monotonic() < until
            time.sleep(0.1)
        (mirror.path / "outcome.json").write_text("2")
    assert (opened().path / "outcome.json").read_text() == "2"


def test_a_study_in_a_bucket_is_named_by_its_url_or_by_its_name(s3: S3) -> None:
    s3.write("runs/studies/tiny/study.json", b"{}")
    assert StudyFolder.at(HOME, "elsewhere").exists
    assert StudyFolder.at("tiny", "s3://bucket/runs").exists
    assert not StudyFolder.at("other", "s3://bucket/runs").exists
