"""Ownership: one driver at a time runs a study, whatever machines they are on and whatever the storage is.

The owner writes who it is beside the study, and a beat every few seconds. Another driver is refused as long as the
beats go on; that is seen by watching the record for a while on a clock of its own, so that clocks of two machines, or
one that is set, do not matter. On one machine the system's own file lock says at once whether the owner lives.
"""

import _thread
import fcntl
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, final

import psutil

from mtl_search.errors import DamagedError, StorageError, StudyError
from mtl_search.storage.files import read_json, write_json
from mtl_search.storage.paths import StoragePath

LEASE_FILE = "owner.json"
HEARTBEAT = 10.0
"""Seconds between an owner's beats."""
STALE = 60.0
"""Seconds without a beat after which an owner counts as gone."""
_SETTLING = 2.0
"""Seconds after which two drivers that took a study at the same moment see whose record stayed."""
_log = logging.getLogger(__name__)


@final
class StudyLease:
    """One driver's hold on a study.

    Args:
        study: Its name.
        location: Its folder in the storage.
        lock: A file of this machine for the system's lock.
        notify: Told in a line that an owner is watched.
        shared: Whether others may hold it too, which share it as well.
        gave_up: Called when another driver has taken it over, before the main thread is interrupted.
    """

    def __init__(
        self,
        study: str,
        location: StoragePath,
        lock: Path,
        notify: Callable[[str], None] = lambda _: None,
        *,
        shared: bool = False,
        gave_up: Callable[[], None] = lambda: None,
    ) -> None:
        token = uuid.uuid4().hex
        self._study, self._location, self._lock, self._notify, self._shared = study, location, lock, notify, shared
        self._record = location / (f"joined-{token}.json" if shared else LEASE_FILE)
        self._me = {
            "token": token,
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "process_started": psutil.Process().create_time(),
            "user": os.environ.get("USER") or str(os.getuid()),
            "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        }
        self._gave_up = gave_up
        self._stopping = threading.Event()
        self._lost = ""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the study while the block runs.

        Raises:
            StudyError: Another driver holds it, or has taken it over from this one, which was away for too long.
        """
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                raise self._refusal(file.read().strip() or "another process") from error
            self._await_end_of_owner()
            file.truncate(0)
            file.write(_holder_words(self._me))
            file.flush()
            self._take()
            thread = threading.Thread(target=self._heartbeat, name="mtl_search-lease", daemon=True)
            thread.start()
            try:
                yield
            except KeyboardInterrupt:
                if self._lost:
                    raise StudyError(self._lost) from None
                raise
            finally:
                self._stopping.set()
                thread.join()
                if not self._lost:
                    with suppress(StorageError):  # a store that is away: the record is stale soon
                        self._record.unlink(missing_ok=True)

    def taken(self) -> bool:
        """Whether another driver has taken the study over."""
        return bool(self._lost)

    def _await_end_of_owner(self) -> None:
        """Return once nobody holds the study against this driver, or nobody living.

        Raises:
            StudyError: Somebody does.
        """
        rivals = [self._location / LEASE_FILE] if self._shared else lease_records(self._location)
        found = {
            record: owner
            for record in rivals
            if (owner := _read_lease(record)) is not None and not _is_dead_here(owner)
        }
        if found:
            names = ", ".join(map(_holder_words, found.values()))
            self._notify(f"study {self._study} was being run by {names}; seeing if it still is takes {STALE:.0f} s")
        until = time.monotonic() + STALE
        while found and time.monotonic() < until:
            time.sleep(1.0)
            now = {record: _read_lease(record) for record in found}
            for record, owner in now.items():
                if owner is not None and owner != found[record]:
                    raise self._refusal(_holder_words(owner))
            found = {record: owner for record, owner in found.items() if now[record] is not None}
        for record in rivals:
            record.unlink(missing_ok=True)

    def _take(self) -> None:
        write_json(self._record, self._me | {"beat": 0})
        if not isinstance(self._record, Path):  # where there is no file lock, the last to write is the one
            time.sleep(_SETTLING)
            owner = _read_lease(self._record)
            if owner is None or owner["token"] != self._me["token"]:
                raise self._refusal(_holder_words(owner) if owner else "another process")

    def _heartbeat(self) -> None:
        """Thread: say that this driver lives; give up where another has taken its place."""
        count = 0
        while not self._stopping.wait(HEARTBEAT):
            count += 1
            try:
                if self._lost_to_another():
                    self._gave_up()
                    _interrupt()
                    return
                write_json(self._record, self._me | {"beat": count})
            except (OSError, StorageError) as error:
                _log.error("cannot say that this driver lives: %s", error)

    def _lost_to_another(self) -> bool:
        """Whether another driver has taken the study: it wrote its own record over this one, or took this one away."""
        mine, alone = _read_lease(self._record), _read_lease(self._location / LEASE_FILE)
        if mine is not None and mine["token"] == self._me["token"] and (alone is None or alone == mine):
            return False
        by = "another driver" if alone is None or alone["token"] == self._me["token"] else _holder_words(alone)
        self._lost = (
            f"study {self._study} was taken over by {by} while this driver did not answer for {STALE:.0f} s; it goes "
            "on there"
        )
        return True

    def _refusal(self, owner: str) -> StudyError:
        also = "" if self._shared else ", or run it together with --join on both sides"
        return StudyError(f"study {self._study} is being run by {owner}; wait for it or end it{also}")


def _interrupt() -> None:
    """End what the main thread does, also where a shell started this process without a hearing for Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if callable(signal.getsignal(number)):
            _thread.interrupt_main(number)
            return
    os.kill(os.getpid(), signal.SIGTERM)


def lease_holder(location: StoragePath, lock: Path) -> str | None:
    """Who runs a study now, in words; None where nobody does. Of an owner elsewhere its last word counts.

    Args:
        location: The study's folder in the storage.
        lock: The file of this machine for the system's lock.
    """
    if lock.exists():
        with lock.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "another process"
    owners = [
        owner
        for record in lease_records(location)
        if (owner := _read_lease(record)) is not None and not _is_dead_here(owner)
    ]
    return ", ".join(map(_holder_words, owners)) or None


def lease_records(location: StoragePath) -> list[StoragePath]:
    """Files of those who hold a study, or did when they were killed."""
    return [location / LEASE_FILE, *location.glob("joined-*.json")]


def _read_lease(record: StoragePath) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = read_json(record)
    except (FileNotFoundError, DamagedError):  # a record that nobody can read holds nothing
        return None
    return found


def _holder_words(owner: dict[str, Any]) -> str:
    return f"process {owner['pid']} on {owner['host']} (user {owner['user']}, since {owner['since']})"


def _machine() -> str:
    """What tells this machine, since it was started, and this container's processes from all others."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    processes = Path("/proc/self/ns/pid")
    parts = [boot.read_text().strip() if boot.exists() else "", str(processes.stat().st_ino) if boot.exists() else ""]
    return "/".join([socket.gethostname(), *parts])


def _is_dead_here(owner: dict[str, Any]) -> bool:
    """Whether the owner was a process of this machine that is gone."""
    if owner["machine"] != _machine():
        return False
    try:
        return bool(abs(psutil.Process(owner["pid"]).create_time() - owner["process_started"]) > 1.0)
    except psutil.Error:
        return True
