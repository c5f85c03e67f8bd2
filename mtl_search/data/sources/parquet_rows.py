"""Rows of Parquet files that stay on disk: read column by column where one fits into memory, else chunk by chunk.

What a `table` source gives where the study streams; the checks, the fits and `records` take chunks from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa

from mtl_search.data.sources.base import Columns, as_column, why_unreadable
from mtl_search.errors import DataError, Problem
from mtl_search.recipe import content_key

if TYPE_CHECKING:
    import pyarrow.dataset as pads

Rows = Mapping[str, np.ndarray]
"""Column name to values (n, ...), in memory or read when asked for."""
CHUNK_ROWS = 8192
"""Most rows that are read at a time."""
_BUFFER = 1 << 16  # bytes of every column that are read at a time
_END = 1 << 16  # bytes: more than what describes a table in most files, and enough to see a change in any


class ParquetRows(Mapping[str, np.ndarray]):
    """Some rows of a table: a mapping of column name to values, each read when it is asked for.

    Args:
        path: A file, a folder of files, or a URL that pyarrow opens.
        rows: Numbers of the rows in the table, ascending; None for all.
        hidden: Columns that are left out.
        verbatim: Columns whose values are kept as they are, as in `Source.load`.
        place: Key path of the file, for problems.

    Every method raises a `DataError` where the file cannot be read.
    """

    def __init__(
        self,
        path: str,
        rows: np.ndarray | None = None,
        hidden: Iterable[str] = (),
        verbatim: Collection[str] = (),
        place: str = "path",
    ) -> None:
        self._given, self._place = path, place
        self._path = path if "://" in path else str(Path(path).resolve())  # workers may be in another folder
        self._numbers, self._hidden, self._verbatim = rows, frozenset(hidden), frozenset(verbatim)
        self._held: Columns = {}

    def __getstate__(self) -> dict[str, Any]:
        """What travels to the workers: where the rows are, and none of them."""
        names = ("_given", "_place", "_path", "_numbers", "_hidden", "_verbatim")
        return {name: getattr(self, name) for name in names} | {"_held": {}}

    def under(self, section: str) -> ParquetRows:
        """These rows, whose problems are told below a section of the study file."""
        self._place = f"{section}.{self._place}"
        return self

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, pa.ArrowException) as error:
            rule = f"must be a readable file ({why_unreadable(error)})"
            raise DataError([Problem(self._place, rule, self._given)]) from error

    @cached_property
    def _table(self) -> pads.Dataset:
        import pyarrow.dataset as pads  # here, as it imports pandas, which other sources do not need

        with self._reading():
            return pads.dataset(self._path, format="parquet", partitioning="hive")

    @cached_property
    def _names(self) -> tuple[str, ...]:
        schema = self._table.schema
        indexes = (schema.pandas_metadata or {}).get("index_columns", [])
        return tuple(name for name in schema.names if name not in indexes and name not in self._hidden)

    @cached_property
    def _total(self) -> int:
        with self._reading():
            return int(self._table.count_rows())

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._total if self._numbers is None else len(self._numbers)

    @property
    def version(self) -> str:
        """Changes with the files, wherever copies lie: a hash of names, sizes, ends, and of which rows are meant.

        The end of a Parquet file holds where every column lies and its statistics.
        """
        system = self._table.filesystem
        numbers = b"" if self._numbers is None else self._numbers.tobytes()
        found = []
        for info in system.get_file_info(sorted(self._table.files)):
            with system.open_input_file(info.path) as file:
                file.seek(max(0, info.size - _END))
                found.append([info.base_name, info.size, hashlib.sha256(file.read()).hexdigest()])
        return content_key(found, hashlib.sha256(numbers).hexdigest())

    @overload
    def get(self, name: str, /) -> np.ndarray | None: ...
    @overload
    def get(self, name: str, /, default: Any) -> Any: ...
    def get(self, name: str, /, default: Any = None) -> Any:
        """A column, or the default where there is none of that name."""
        return self[name] if name in self._names else default

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> np.ndarray:
        """A whole column, kept from then on: for targets, which are small beside the inputs."""
        if name not in self._held:
            if name not in self._names:
                raise KeyError(name)
            with self._reading():
                whole = self._table.to_table(columns=[name]).replace_schema_metadata(None)
                # As a category, each text is there once, not once a row.
                exact = name in self._verbatim
                frame = whole.to_pandas(strings_to_categorical=True, integer_object_nulls=exact)
                column = as_column(name, frame[name], exact=exact)
            self._held[name] = column if self._numbers is None else column[self._numbers]
        return self._held[name]

    def take(self, rows: np.ndarray, without: Iterable[str] = ()) -> ParquetRows:
        """Some of the rows, by their numbers among these, ascending; less some columns."""
        numbers = rows if self._numbers is None else self._numbers[rows]
        hidden = (*self._hidden, *without)
        left = None if len(numbers) == self._total else numbers
        chosen = ParquetRows(self._given, left, hidden, self._verbatim, self._place)
        chosen.__dict__.update({"_path": self._path, "_table": self._table, "_total": self._total})
        return chosen

    def chunks(self, names: Sequence[str]) -> Iterator[Columns]:
        """All rows in order, some columns, at most `CHUNK_ROWS` at a time."""
        if not names:
            return
        first = 0
        parts = ((len(batch), _columns(batch, self._verbatim)) for batch in self._batches(names))
        while True:
            with self._reading():
                length, part = next(parts, (0, None))
            if part is None:
                return
            if self._numbers is not None:
                start, stop = np.searchsorted(self._numbers, [first, first + length])
                wanted = self._numbers[start:stop] - first
                part = {name: values[wanted] for name, values in part.items()}
            first += length
            if len(next(iter(part.values()))):
                yield part
            if self._numbers is not None and first > self._numbers[-1]:
                return

    def _batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The table's rows, each batch read when it is asked for: pyarrow's scanner runs far ahead of a slow user."""
        import pyarrow.dataset as pads
        import pyarrow.parquet as pq

        for fragment in self._table.get_fragments():
            same = pads.get_partition_keys(fragment.partition_expression)
            with fragment.filesystem.open_input_file(fragment.path) as file:
                reader = pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
                for batch in reader.iter_batches(CHUNK_ROWS, columns=[name for name in names if name not in same]):
                    whole = batch
                    for name in same.keys() & set(names):
                        kind = self._table.schema.field(name).type
                        whole = whole.append_column(name, pa.repeat(pa.scalar(same[name], kind), len(batch)))
                    yield whole


@dataclass(frozen=True)
class ChunkedRows:
    """Rows of several data sets one after the other, chunk by chunk.

    Attributes:
        parts: The data sets' rows.
    """

    parts: Sequence[Rows]

    def chunks(self, names: Sequence[str]) -> Iterator[Columns]:
        """Some columns; may be asked for again and again."""
        for part in self.parts:
            yield from chunks_of(part, names)

    def by_dataset(self, name: str) -> list[np.ndarray | ChunkedColumn]:
        """One column of each data set: in memory, or in chunks."""
        return [ChunkedColumn(part, name) if isinstance(part, ParquetRows) else part[name] for part in self.parts]


@dataclass(frozen=True)
class ChunkedColumn:
    """One column, chunk by chunk; may be gone through again and again.

    Attributes:
        rows: Where it is.
        name: What it is called.
    """

    rows: Rows
    name: str

    def __iter__(self) -> Iterator[np.ndarray]:
        return (chunk[self.name] for chunk in chunks_of(self.rows, [self.name]))


def first_rows(columns: Rows, names: Sequence[str], count: int) -> Columns:
    """The first rows of some columns."""
    if not isinstance(columns, ParquetRows):
        return {name: columns[name][:count] for name in names}
    few = columns.take(np.arange(min(count, columns.rows)))
    chunks = list(islice(few.chunks(names), count))
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in names}


def chunks_of(columns: Rows, names: Sequence[str]) -> Iterator[Columns]:
    """Some columns chunk by chunk; those that are in memory are one chunk."""
    if isinstance(columns, ParquetRows):
        yield from columns.chunks(names)
    else:
        yield {name: columns[name] for name in names}


def _columns(batch: pa.RecordBatch, verbatim: Collection[str]) -> Columns:
    """A batch as the columns that the whole table would have had there."""
    columns = {name: batch.column(name) for name in batch.schema.names}
    fast = {n: values for n, column in columns.items() if (values := _plain(column, exact=n in verbatim)) is not None}
    rest = [name for name in columns if name not in fast]
    frame = pa.table({name: columns[name] for name in rest}).to_pandas(integer_object_nulls=True) if rest else {}
    return {n: fast[n] if n in fast else as_column(n, frame[n], exact=n in verbatim) for n in columns}


def _plain(column: pa.Array, *, exact: bool) -> np.ndarray | None:
    """Numbers, and lists of them, without pandas, as it would give them; None for anything else.

    Args:
        column: The values.
        exact: Whether whole numbers beside gaps must stay whole.
    """
    kind = column.type
    if exact and column.null_count and pa.types.is_integer(kind):
        return None
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values: np.ndarray = column.to_numpy(zero_copy_only=False)
        return values
    return _stacked(column)


def _stacked(column: pa.Array) -> np.ndarray | None:
    """Lists of numbers of one length as rows of an array, without a Python object for each; None for anything else."""
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return None
    if not (pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)) or not len(column):
        return None
    values = column.flatten()
    if column.null_count or values.null_count or len(values) % len(column):
        return None
    width = len(values) // len(column)
    if not pa.types.is_fixed_size_list(kind) and not (np.diff(column.offsets.to_numpy()) == width).all():
        return None
    array: np.ndarray = values.to_numpy(zero_copy_only=False).reshape(len(column), width)
    return array if array.dtype.kind == "f" else array.astype(np.float64)
