"""The write-ahead journal: what is to be said to MLflow, on disk before anything is sent.

Between the driver, which appends events, and the delivery, which reads them and remembers how far it got. Three files
in one folder: ``events.jsonl`` (the journal), ``delivered-<destination>.json`` (how far it was delivered; one per
destination, so that another server gets the whole story; deleting it delivers everything again, which is harmless)
and ``rejected.jsonl`` (events that MLflow refuses for ever, with the reason). Nothing here knows MLflow.
"""

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtl_search.errors import StorageError, StudyError

PARENT = "study"  # the key of the parent run; the trials' runs have keys of their own

_HEADER = "journal"
_CHUNK = 1 << 16  # bytes: some hundred events, so that the position moves about every second even when catching up

# Made once, which halves the time of a short line; `str` for what JSON cannot say, e.g. a path among the parameters.
_encode = json.JSONEncoder(default=str, separators=(",", ":")).encode


@dataclass(frozen=True)
class Event:
    """One line of the journal.

    Attributes:
        kind: ``start``, ``metrics``, ``text``, ``file``, ``inputs``, ``tags`` or ``end``; ``torn`` for a line whose
            writer was killed in it.
        key: The run that it belongs to.
        time: When the driver said it, milliseconds since 1970.
        body: What the kind needs besides.
    """

    kind: str
    key: str
    time: int
    body: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_line(cls, line: bytes) -> "Event":
        """The event of one line without its line end; a line that is no event becomes one of kind ``torn``."""
        try:
            parts = json.loads(line)
            return cls(parts.pop("kind"), parts.pop("key"), int(parts.pop("time")), parts)
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls("torn", "", 0, {"line": line.decode("utf-8", "replace")})

    def to_dict(self) -> dict[str, Any]:
        """The flat form that a line holds."""
        return {"kind": self.kind, "key": self.key, "time": self.time, **self.body}


@dataclass(frozen=True)
class Operation:
    """Events that go to MLflow in one step: all of one run and one kind."""

    kind: str
    key: str
    events: tuple[Event, ...]

    def split(self) -> Iterator["Operation"]:
        """One operation per event, to find the one that is refused."""
        return (Operation(self.kind, self.key, (event,)) for event in self.events)


def plan(events: Sequence[Event]) -> list[Operation]:
    """Merges the metrics of each run and keeps the order of events within every run.

    Runs may overtake each other, but for the parent's end, which comes after all that was said before it: it ends the
    runs that are still open.

    Args:
        events: In the order of the journal.

    Returns:
        Operations that hold every event exactly once.
    """
    operations: list[Operation] = []
    waiting: dict[str, list[Event]] = {}
    for event in events:
        if event.kind == "metrics":
            waiting.setdefault(event.key, []).append(event)
            continue
        closing = event.kind == "end" and event.key == PARENT
        for key in list(waiting) if closing else [event.key]:
            if key in waiting:
                operations.append(Operation("metrics", key, tuple(waiting.pop(key))))
        operations.append(Operation(event.kind, event.key, (event,)))
    return operations + [Operation("metrics", key, tuple(rest)) for key, rest in waiting.items()]


class Journal:
    """The journal of one study's folder; appending is safe from several threads, and survives a kill of the process.

    Args:
        folder: Where the files lie; made if it does not exist.
        study: Name of the study, for the header.
        of: Id of the journal that a new one continues, where several drivers run a study; None for one of its own.

    Attributes:
        path: The journal's file.
        id: Made with the journal; tells it from every other one.
        ended: Keys of the runs that it ends well, and starts no more.
        begun: When it was made, milliseconds since 1970.

    Raises:
        StudyError: ``events.jsonl`` is there and is not a journal.
    """

    def __init__(self, folder: Path, study: str, of: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "events.jsonl"
        self._rejected = folder / "rejected.jsonl"
        self._mutex = threading.Lock()
        content = self.path.read_bytes() if self.path.exists() else b""
        header = Event.from_line(content.partition(b"\n")[0])
        new = b"\n" not in content  # or killed while the very first line was written
        if not new and (header.kind != _HEADER or "id" not in header.body):
            raise StudyError(f"{self.path} is not a tracking journal: move it away, or name another folder")
        self.begun = time.time_ns() // 1_000_000 if new else header.time
        self.id = of or uuid.uuid4().hex[:12] if new else str(header.body["id"])
        self.ended: set[str] = set()
        for line in content.splitlines():
            if line.startswith((b'{"kind":"start"', b'{"kind":"end"')):
                event = Event.from_line(line)
                self._note(event.kind, event.key, event.body)
        # Unbuffered and O_APPEND: one system call a line, and what was written stays when the process is killed.
        self._file = self.path.open("ab", buffering=0)
        self._torn = not new and not content.endswith(b"\n")
        if new:
            self._file.truncate(0)
            self.append(_HEADER, "", id=self.id, study=study)

    def append(self, kind: str, key: str, time_ms: int | None = None, **body: object) -> None:
        """Writes one event; on disk (for this machine's other processes, not against power loss) when it returns.

        Raises:
            StorageError: The disk is full or gone.
        """
        now = time.time_ns() // 1_000_000 if time_ms is None else time_ms
        line = _encode({"kind": kind, "key": key, "time": now, **body}) + "\n"
        with self._mutex:
            data = (b"\n" if self._torn else b"") + line.encode()
            self._torn = True
            try:
                written = self._file.write(data)
            except OSError as error:
                raise StorageError(f"cannot write {self.path}: {error.strerror or error}") from error
            if written != len(data):
                raise StorageError(f"cannot write {self.path}: an event did not go whole; is the disk full?")
            self._torn = False
            self._note(kind, key, body)

    def _note(self, kind: str, key: str, body: Mapping[str, object]) -> None:
        if kind == "start":
            self.ended.discard(key)
        elif kind == "end" and body.get("status") == "FINISHED":
            self.ended.add(key)

    def read(self, offset: int) -> tuple[list[Event], int]:
        """The whole lines from an offset on, some hundred at a time.

        Args:
            offset: Byte at which a line begins.

        Returns:
            The events, and the offset after the last of them (the same offset when there is none).
        """
        with self.path.open("rb") as file:
            file.seek(offset)
            chunk = file.read(_CHUNK)
            while chunk and b"\n" not in chunk and (more := file.read(_CHUNK)):
                chunk += more
        lines = chunk[: chunk.rfind(b"\n") + 1].split(b"\n")[:-1]
        events = [Event.from_line(line) for line in lines if line]
        return [event for event in events if event.kind != _HEADER], offset + chunk.rfind(b"\n") + 1

    def waiting(self, offset: int) -> int:
        """Number of events from an offset to the end."""
        with self.path.open("rb") as file:
            file.seek(offset)
            lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_CHUNK), b""))
        return max(0, lines - (offset == 0))  # the header is no event

    def set_aside(self, event: Event, reason: str) -> None:
        """Keeps an event that can never be delivered, with the reason."""
        with self._rejected.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"reason": reason, "event": event.to_dict()}) + "\n")

    def close(self) -> None:
        """Ends writing; reading stays possible."""
        self._file.close()


class Position:
    """How far one journal was delivered to one destination; written aside, then renamed, so a kill leaves it whole.

    Args:
        journal: The journal that the position is in.
        destination: Whatever tells destinations apart, e.g. the server's address and the experiment.

    Attributes:
        offset: Byte up to which everything was delivered or set aside.
        runs: How many runs of this journal the destination had then.
    """

    def __init__(self, journal: Journal, *destination: str) -> None:
        name = hashlib.sha256(json.dumps(destination).encode()).hexdigest()[:12]
        self._path = journal.path.with_name(f"delivered-{name}.json")
        self._journal = journal
        self.offset = self.runs = 0
        self.load()

    def load(self) -> None:
        """Reads the file again; back to the beginning when it is missing, unreadable or of another journal."""
        try:
            saved = json.loads(self._path.read_bytes())
            mine = saved["journal"] == self._journal.id
            self.offset, self.runs = (int(saved["offset"]), int(saved["runs"])) if mine else (0, 0)
        except (OSError, ValueError, KeyError, TypeError):
            self.offset = self.runs = 0  # delivering twice is harmless, delivering never is not
        self.offset = min(self.offset, self._journal.path.stat().st_size)

    def save(self, offset: int, runs: int) -> None:
        """Moves on, on disk first."""
        aside = self._path.with_suffix(".tmp")
        aside.write_text(json.dumps({"journal": self._journal.id, "offset": offset, "runs": runs}), encoding="utf-8")
        aside.replace(self._path)
        self.offset, self.runs = offset, runs
