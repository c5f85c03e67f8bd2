"""Storage sync: the driver's own small files of a study in a local folder, kept in a storage that is no folder.

A working folder lives as long as its process: it begins with what the storage holds, and a thread takes what changes
there. Files are put whole; those that only grow (journals, logs) go by their new part, so that pushing costs the same
however long they are. A part is named by the byte that it begins with.
"""

import atexit
import logging
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import final

from mtl_search.errors import StorageError
from mtl_search.storage.paths import scratch
from mtl_search.storage.remote import RemotePath

INTERVAL = 1.0
"""Seconds between looks at what has changed."""
_PAUSE = 0.1
PARTS = ".parts"
_GROWING = {".journal", ".jsonl", ".log"}
_LOCAL = {"ray", "trials", "lock", "owner.json", "token"}
"""What only this machine, or somebody else, needs."""
_MOST_PARTS = 64
"""So many small parts become one."""
_log = logging.getLogger(__name__)


@final
class StorageSync:
    """One study's.

    Args:
        location: The study's folder in the storage.

    """

    def __init__(self, location: RemotePath) -> None:
        self._location = location
        self._path = Path(tempfile.mkdtemp(dir=scratch(), prefix=f"study-{location.name}-"))
        self._known: dict[str, tuple[int, int]] = {}
        self._pushed: dict[str, list[int]] = {}
        self._begun = self._kept = self._abandoned = False
        self._mutex = threading.Lock()
        self._wake = threading.Event()
        self._threads = ThreadPoolExecutor(8, "mtl_search-mirror")

    @property
    def path(self) -> Path:
        """The working folder; what the storage holds is got when it is first asked for.

        Raises:
            StorageError: The store does not answer.
        """
        if not self._begun:
            self.pull()
        return self._path

    def pull(self) -> None:
        """Make the working folder what the storage holds; what is written to the log here stays.

        Raises:
            StorageError: The store does not answer.
        """
        with self._mutex:
            if self._kept:  # what is here is what the storage will hold
                return
            whole, parts = set[str](), dict[str, dict[int, int]]()
            for name, size in self._listed():
                folder, _, start = name.rpartition("/")
                if folder.endswith(PARTS):
                    parts.setdefault(folder.removesuffix(PARTS), {})[int(start)] = size
                else:
                    whole.add(name)
            for name in (*whole, *parts):
                (self._path / name).parent.mkdir(parents=True, exist_ok=True)
            list(self._threads.map(self._get, whole))
            for name, sizes in parts.items():
                if not (name.endswith(".log") and (self._path / name).exists()):
                    self._join(name, sizes)
            self._begun = True

    def push(self) -> None:
        """Take to the storage whatever has changed; it is there when this returns.

        Raises:
            StorageError: The store does not answer, or refuses.
        """
        with self._mutex:
            if not self._abandoned:
                list(self._threads.map(self._put, self._files()))

    def abandon(self) -> None:
        """Push nothing any more: what is in the storage is another driver's now."""
        with self._mutex:
            self._abandoned = True

    def nudge(self) -> None:
        """Push now rather than in a while."""
        self._wake.set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Pull, then push from a thread for as long as the block runs, and once more at its end."""
        self.pull()
        stopping = threading.Event()

        def keep_pushing() -> None:
            while not stopping.is_set():
                self._wake.wait(INTERVAL)
                stopping.wait(_PAUSE)  # what comes close together goes together
                self._wake.clear()
                try:
                    self.push()
                except (StorageError, OSError) as error:
                    _log.error("the study's own files wait to be stored: %s", error)

        self._kept = True
        thread = threading.Thread(target=keep_pushing, name="mtl_search-mirror", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            self.nudge()
            thread.join()
            self._kept = False
            self.push()

    def drop(self) -> None:
        """Delete the working folder."""
        self._threads.shutdown()
        shutil.rmtree(self._path, ignore_errors=True)

    def _listed(self) -> Iterable[tuple[str, int]]:
        """Files of the study in the storage with their sizes, without those of trials, of which there may be many."""
        for name, size in self._location.entries().items():
            if name in _LOCAL or name.startswith("joined-"):
                continue
            if size is None:
                yield from (
                    (f"{name}/{below}", length) for below, length in (self._location / name).sizes(below=True).items()
                )
            else:
                yield name, size

    def _get(self, name: str) -> None:
        local = self._path / name
        aside = local.with_name(f".{local.name}.pulled")
        (self._location / name).download(aside)
        aside.replace(local)
        self._known[name] = _signature(local)

    def _join(self, name: str, sizes: dict[int, int]) -> None:
        """Put a growing file together; where a part was merged into the one before it, it is passed over."""
        starts = sorted(sizes)
        ends = [0, *(start + sizes[start] for start in starts)]
        needed = [start for number, start in enumerate(starts) if start + sizes[start] > max(ends[: number + 1])]
        contents = self._threads.map(lambda start: (self._part(name, start)).read_bytes(), needed)
        with (self._path / name).open("wb") as file:
            for start, content in zip(needed, contents, strict=True):
                if start > file.tell():
                    _log.error("%s%s lacks what stands before byte %d", self._location / name, PARTS, start)
                    break
                file.write(content[file.tell() - start :])
        self._pushed[name] = [*starts, ends[-1]]

    def _part(self, name: str, start: int) -> RemotePath:
        return self._location / f"{name}{PARTS}" / f"{start:015d}"

    def _files(self) -> list[str]:
        tops = [top for top in self._path.iterdir() if top.name not in _LOCAL]
        paths = [path for top in tops for path in (top.rglob("*") if top.is_dir() else (top,)) if path.is_file()]
        context = (".lock", ".tmp", ".pulled")
        return [
            path.relative_to(self._path).as_posix()
            for path in paths
            if not path.name.startswith(".") and path.name != "lock" and path.suffix not in context
        ]

    def _put(self, name: str) -> None:
        path = self._path / name
        try:
            signature = _signature(path)
            if self._known.get(name) == signature:
                return
            if path.suffix in _GROWING:
                self._put_part(name, path)
            else:
                (self._location / name).write_bytes(path.read_bytes())
        except FileNotFoundError:  # replaced or deleted since it was listed
            return
        self._known[name] = signature

    def _put_part(self, name: str, path: Path) -> None:
        """Put what has come since; whole lines alone, so that nothing torn is ever stored."""
        starts = self._pushed.setdefault(name, [0])
        with path.open("rb") as file:
            file.seek(starts[-1])
            new = file.read()
            if path.suffix != ".log":
                new = new[: new.rfind(b"\n") + 1]
            if not new:
                return
            self._part(name, starts[-1]).write_bytes(new)
            starts.append(starts[-1] + len(new))
            small = len(starts) - 1
            if small % _MOST_PARTS:
                return
            first, *rest = starts[-1 - _MOST_PARTS : -1]
            file.seek(first)
            self._part(name, first).write_bytes(file.read(starts[-1] - first))
        for start in rest:
            self._part(name, start).unlink(missing_ok=True)


@cache
def storage_sync_of(location: RemotePath) -> StorageSync:
    """The working folder of a study in this process; it holds what the storage holds, and goes with the process."""
    storage_sync = StorageSync(location)
    atexit.register(storage_sync.drop)
    return storage_sync


def _signature(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
