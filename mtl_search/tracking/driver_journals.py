"""Sharing: the journals of several drivers that track one study, in folders of their own below the study's.

All have one id, so that each driver's delivery finds the runs of the others in MLflow. A driver that died leaves a
journal that is delivered by whoever concludes the study.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtl_search.tracking.journal import Event, Journal, Position

TURNS = "turns"
"""File that drivers lock to take turns in what must be done once."""
_DRIVERS = "drivers"


@contextmanager
def take_turn(file: Path) -> Iterator[None]:
    """Hold a lock, waiting for whoever has it; the kernel lets go when a process is killed."""
    with file.open("a") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def journal_of(driver: str, folder: Path, study: str) -> Journal:
    """A driver's journal, of the id that the study's own has."""
    folder.mkdir(parents=True, exist_ok=True)
    with take_turn(folder / TURNS):
        own = Journal(folder, study)
        own.close()
    return Journal(folder / _DRIVERS / driver, study, own.id)


def undelivered_journals(folder: Path, study: str, *destination: str) -> list[str]:
    """Drivers that have said more than was delivered, and do not deliver now."""
    found = []
    for place in sorted((folder / _DRIVERS).glob("*/events.jsonl")):
        journal = Journal(place.parent, study)
        waiting = journal.waiting(Position(journal, *destination).offset)
        journal.close()
        if waiting and _free(place.with_name("lock")):
            found.append(place.parent.name)
    return found


def last_said(folder: Path, part: str, name: str) -> dict[str, Any]:
    """The last value of a metric or of a tag in each run that has it, whichever driver said so.

    Args:
        folder: The study's, in which its own journal lies.
        part: ``metrics`` or ``tags``.
        name: Of the metric or the tag.
    """
    found: dict[str, tuple[int, Any]] = {}
    for path in (folder / "events.jsonl", *sorted((folder / _DRIVERS).glob("*/events.jsonl"))):
        for line in path.read_bytes().splitlines() if path.exists() else ():
            if f'"{name}":'.encode() not in line:
                continue
            event = Event.from_line(line)
            if name in event.body.get(part, {}) and event.time >= found.get(event.key, (0, None))[0]:
                found[event.key] = event.time, event.body[part][name]
    return {key: value for key, (_, value) in found.items()}


def _free(lock: Path) -> bool:
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
