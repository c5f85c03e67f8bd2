"""The lock with an owner: one driver at a time, wherever it runs, and no clock is believed."""

import multiprocessing
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_server import S3

from mtl_search.errors import StudyError
from mtl_search.storage.files import read_json, write_json
from mtl_search.storage.paths import StoragePath, storage_path
from mtl_search.study_store import lease
from mtl_search.study_store.lease import LEASE_FILE, StudyLease

ELSEWHERE: dict[str, Any] = {
    "token": "theirs",
    "host": "other-node",
    "machine": "other-node/1/2",
    "pid": 7,
    "process_started": 0.0,
    "user": "anna",
    "since": "2099-01-01",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT", 0.3)
    monkeypatch.setattr(lease, "STALE", 3.0)


@pytest.fixture(params=["folder", "s3"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> StoragePath:
    if request.param == "s3":
        request.getfixturevalue("s3")
        return storage_path("s3://bucket/runs/studies/tiny")
    return tmp_path


def hold(home: StoragePath, lock: Path) -> StudyLease:
    return StudyLease("tiny", home, lock)


def test_an_owner_says_who_it_is_and_lets_go(home: StoragePath, tmp_path: Path) -> None:
    with hold(home, tmp_path / "lock").held():
        record = read_json(home / LEASE_FILE)
        assert record["host"] == socket.gethostname()
        time.sleep(1.5)
        assert read_json(home / LEASE_FILE)["beat"] > record["beat"]
    assert not (home / LEASE_FILE).exists()


def test_a_living_owner_on_another_node_is_named_and_kept(home: StoragePath, tmp_path: Path) -> None:
    stop = threading.Event()

    def heartbeat() -> None:
        count = 0
        while not stop.wait(0.5):
            count += 1
            write_json(home / LEASE_FILE, ELSEWHERE | {"beat": count})

    write_json(home / LEASE_FILE, ELSEWHERE | {"beat": 0})
    other = threading.Thread(target=heartbeat)
    other.start()
    try:
        with (
            pytest.raises(StudyError, match=r"being run by process 7 on other-node \(user anna, since 2099"),
            hold(home, tmp_path / "lock").held(),
        ):
            pass
    finally:
        stop.set()
        other.join()
    assert read_json(home / LEASE_FILE)["token"] == "theirs"


def test_an_owner_without_a_beat_is_followed_whatever_its_clock_said(home: StoragePath, tmp_path: Path) -> None:
    write_json(home / LEASE_FILE, ELSEWHERE | {"beat": 5})
    said: list[str] = []
    began = time.monotonic()
    with StudyLease("tiny", home, tmp_path / "lock", said.append).held():
        assert time.monotonic() - began > 2.5
        assert read_json(home / LEASE_FILE)["host"] == socket.gethostname()
    assert said == [
        "study tiny was being run by process 7 on other-node (user anna, since 2099-01-01); "
        "seeing if it still is takes 3 s"
    ]


def test_a_dead_owner_of_this_machine_is_followed_at_once(home: StoragePath, tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    pid = process.pid
    process.join()
    write_json(home / LEASE_FILE, ELSEWHERE | {"machine": lease._machine(), "pid": pid, "beat": 0})
    began = time.monotonic()
    with hold(home, tmp_path / "lock").held():
        assert time.monotonic() - began < 2.9


def test_a_damaged_record_does_not_keep_a_study_for_ever(home: StoragePath, tmp_path: Path) -> None:
    (home / LEASE_FILE).write_bytes(b"{")
    with hold(home, tmp_path / "lock").held():
        assert read_json(home / LEASE_FILE)["host"] == socket.gethostname()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Heard as on a terminal, however these tests were started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_a_driver_that_was_taken_over_stops_and_leaves_the_new_owner_alone(home: StoragePath, tmp_path: Path) -> None:
    def sleeps_too_long() -> None:
        with hold(home, tmp_path / "lock").held():
            write_json(home / LEASE_FILE, ELSEWHERE | {"beat": 0})
            time.sleep(20)

    with pytest.raises(StudyError, match="was taken over by process 7 on other-node"):
        sleeps_too_long()
    assert read_json(home / LEASE_FILE)["token"] == "theirs"


def test_of_two_that_take_a_study_at_once_the_last_to_write_has_it(s3: S3, tmp_path: Path) -> None:
    home, outcomes = storage_path("s3://bucket/runs/studies/tiny"), []

    def run(number: int) -> None:
        try:
            with hold(home, tmp_path / f"lock-{number}").held():
                outcomes.append("held")
                time.sleep(3.5)
        except StudyError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome == "held" for outcome in outcomes) == [False, True]


def test_drivers_that_share_a_study_do_not_keep_each_other_out_but_a_lone_one(
    home: StoragePath, tmp_path: Path
) -> None:
    def shared(number: int) -> StudyLease:
        return StudyLease("tiny", home, tmp_path / f"lock-{number}", shared=True)

    with shared(1).held(), shared(2).held():
        assert len(list(home.glob("joined-*.json"))) == 2
        with (
            pytest.raises(StudyError, match="study tiny is being run by process"),
            hold(home, tmp_path / "lock").held(),
        ):
            pass
    with hold(home, tmp_path / "lock").held():
        assert list(home.glob("joined-*.json")) == []
