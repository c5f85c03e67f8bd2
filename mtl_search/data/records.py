"""Record files: the encoded rows of a split on this node's disk, every row as many bytes as the next.

Where the inputs stream, this is what a row is picked from: written once from the Parquet files, by the first process of
a node that needs it, and removed when none does.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mtl_search.data.gather_rows import gather_rows
from mtl_search.data.sources.parquet_rows import ParquetRows
from mtl_search.errors import StudyError
from mtl_search.input_kinds.encoding import Encoded, encode, input_columns, parts_of
from mtl_search.recipe import content_key

_FOLDER = "mtl_search_records"
_FILE = "rows.bin"


@dataclass(frozen=True, eq=False)
class StreamedRows:
    """Rows of one split that stay on disk.

    Attributes:
        rows: Where the raw columns are.
        spec: How they are encoded, as in `Preparation.spec`; without text.
        count: Number of rows.
        version: Of the files as they were when the study read them.
    """

    rows: ParquetRows
    spec: dict[str, Any]
    count: int
    version: str

    @classmethod
    def of(cls, rows: ParquetRows, spec: dict[str, Any]) -> StreamedRows:
        """The rows as they are now."""
        return cls(rows, spec, rows.rows, rows.version)

    @property
    def key(self) -> str:
        """Changes with the rows and the way they are encoded."""
        return content_key(self.version, self.spec)

    @cached_property
    def kinds(self) -> tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]:
        """Dtype and shape of a row of every array that `encode` gives."""
        return tuple(kind.row_of(part) for kind, part in parts_of(self.spec))

    def encoded(self) -> Iterator[Encoded]:
        """All rows in order, chunk by chunk.

        Raises:
            ValueError: A value is not what it was when the preparation was fitted.
        """
        return (encode(chunk, self.spec) for chunk in self.rows.chunks(input_columns(self.spec)))


class RecordFile:
    """The file of one split; held open for others to see as long as this object lives.

    Args:
        rows: Whose file; written here if this node does not have it.

    Attributes:
        path: The file.
        bytes_per_row: Size of one record.
    """

    def __init__(self, rows: StreamedRows) -> None:
        kinds = [(f"{number}", _stored(kind), shape) for number, (kind, shape) in enumerate(rows.kinds)]
        self._dtype = np.dtype(kinds)
        self._kinds = [kind for kind, _ in rows.kinds]
        self.rows, self.bytes_per_row = rows.count, self._dtype.itemsize
        base = Path(tempfile.gettempdir()) / f"{_FOLDER}_{os.getuid()}"
        base.mkdir(mode=0o700, exist_ok=True)
        _sweep(base)
        self.path = base / rows.key / _FILE
        self._lock = _held(base / f"{rows.key}.lock")
        weakref.finalize(self, _let_go, self._lock, base)
        # Not the lock that is held for life: who asks for that one alone waits for every other reader to go.
        with (base / f"{rows.key}.writing").open("w") as writing:
            fcntl.flock(writing, fcntl.LOCK_EX)
            if not self.path.exists():
                self._write(rows)

    def read(self, start: int, stop: int) -> Encoded:
        """Rows from start to stop, as `encode` gives them."""
        with self.path.open("rb") as file:
            file.seek(start * self.bytes_per_row)
            return self.fields(np.fromfile(file, self._dtype, max(0, stop - start)))

    def pick(self, rows: np.ndarray) -> Encoded:
        """Rows by number, as `encode` gives them."""
        return self.fields(gather_rows(str(self.path), self.bytes_per_row, rows))

    def fields(self, records: np.ndarray) -> Encoded:
        """Records (n,), or their bytes (n, bytes_per_row), as `encode` gives them."""
        if records.dtype == np.uint8:
            records = records.reshape(-1).view(self._dtype)
        return tuple(np.ascontiguousarray(records[str(number)], dtype=kind) for number, kind in enumerate(self._kinds))

    def _write(self, rows: StreamedRows) -> None:
        if rows.rows.version != rows.version:
            raise StudyError("the tables that the study streams have changed since it read them")
        new = self.path.parent.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        size = self.rows * self.bytes_per_row
        try:
            with (new / _FILE).open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)  # no room is known at once, not after half of the rows
                for encoded in rows.encoded():
                    records = np.empty(len(encoded[0]), self._dtype)
                    for number, values in enumerate(encoded):
                        records[str(number)] = values
                    records.tofile(file)
        except OSError as error:
            shutil.rmtree(new, ignore_errors=True)
            reason = f"{size / 2**20:.0f} MiB for the rows that stream cannot be written to {new.parent}: {error}"
            raise StudyError(f"{reason}; TMPDIR names another place") from error
        new.rename(self.path.parent)


def _stored(kind: np.dtype[Any]) -> np.dtype[Any]:
    """How a value is stored: a code is far below 2**31."""
    return np.dtype(np.int32) if kind == np.int64 else kind


def _held(path: Path) -> int:
    """A lock file, opened and held together with all other users."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def _let_go(lock: int, base: Path) -> None:
    os.close(lock)
    _sweep(base)


def _sweep(base: Path) -> None:
    """Remove the files that no living process holds."""
    for path in base.glob("*.lock"):
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            for folder in (path.with_suffix(""), path.with_suffix(".new")):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
