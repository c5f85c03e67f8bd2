"""Files of rows: one file for all rows, or one per split; and which of the rows are read.

The sources that read files share these settings, under the same names in the study file.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mtl_search.data.sources.base import SPLITS, as_column, why_unreadable
from mtl_search.data.sources.parquet_rows import ParquetRows
from mtl_search.errors import DataError, Problem, few_of
from mtl_search.input_kinds.values import means, texts_of

UNREADABLE = (*(OSError, EOFError, zlib.error, ImportError, ValueError, csv.Error, pa.ArrowException),)
"""What libraries raise for a file that is not what its name says."""
Table = Mapping[Any, Any]
"""Column name to a series or an array."""


@dataclass(frozen=True)
class Files:
    """Which files hold the rows of a data set.

    Attributes:
        whole: The file with all rows; None where each split has its own.
        parts: Split to its own file; None for a split that has none.
        where: Column to value: rows that hold all of these values are read.
        split_by: Column that says which split a row is of.
    """

    whole: str | None
    parts: Mapping[str, str | None]
    where: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    split_by: str | None = None

    @property
    def chosen_by(self) -> tuple[str, ...]:
        """Columns that say which rows are read, and of which split they are."""
        return (*self.where, *(() if self.split_by is None else (self.split_by,)))

    def contradictions(self) -> Iterator[Problem]:
        """What does not go together."""
        if (self.whole is None) == (self.parts.get("train") is None) or (self.whole is not None and any(self._own)):
            rule = "must be given, or else the splits' own files 'train', 'validation' and 'test'; not both"
            yield Problem("path", rule, self.whole)
        elif self.split_by is not None and self.whole is None:
            yield Problem("split_by", "has no effect where the splits have their own files", self.split_by)

    @property
    def _own(self) -> dict[str, str]:
        return {split: path for split, path in self.parts.items() if path is not None}

    def read(self, read: Callable[[str, str], Table]) -> dict[str, Table]:
        """The rows by split.

        Args:
            read: Path and its key path -> the table.

        Raises:
            DataError: A file cannot be read, or its rows cannot be chosen.
        """
        splits: dict[str, Table] = {}
        problems: list[Problem] = []
        for split, path in ({"train": self.whole} if self.whole is not None else self._own).items():
            place = split if self.whole is None else "path"
            try:
                splits |= self.select(split, read(path, place))
            except DataError as error:
                problems += error.problems
            except UNREADABLE as error:
                problems.append(Problem(place, f"must be a readable file ({why_unreadable(error)})", path))
        if problems:
            raise DataError(problems)
        return splits

    def select(self, split: str, table: Table) -> dict[str, Table]:
        """The rows that ``where`` leaves, by the split that ``split_by`` names.

        Args:
            split: The split of all rows, unless ``split_by`` names a column.
            table: All rows.

        Raises:
            DataError: A column is missing, no row is left, or a row is of no known split.
        """
        names = [("where", name) for name in self.where]
        names += [] if self.split_by is None else [("split_by", self.split_by)]
        if not names:
            return {split: table}
        rule = f"must name columns of the table (split {split})"
        if lost := [Problem(place, rule, name, few_of(map(str, table))) for place, name in names if name not in table]:
            raise DataError(lost)
        texts = {name: _texts(place, name, table) for place, name in names}
        kept = np.ones(len(texts[names[0][1]]), dtype=bool)
        for name, value in self.where.items():
            meant = {text for text in set(texts[name]) if means(text, value)}
            kept &= np.fromiter((text in meant for text in texts[name]), bool, len(texts[name]))
        if not kept.any():
            raise DataError([Problem("where", f"must leave at least one row (split {split})", dict(self.where))])
        parts = {split: kept}
        if self.split_by is not None:
            found = texts[self.split_by]
            if unknown := sorted(set(found[kept]) - set(SPLITS)):
                raise DataError([Problem("split_by", "must name a column of splits' names", unknown[0], SPLITS)])
            parts = {name: kept & (found == name) for name in SPLITS}
        return {name: _part(table, rows, texts) for name, rows in parts.items() if rows.any()}


def _texts(place: str, name: str, table: Table) -> np.ndarray:
    """A column (n,) as texts."""
    column = as_column(name, table[name], exact=True)
    if column.ndim > 1:
        rule = f"must name columns of single values, got the shape {column.shape} of"
        raise DataError([Problem(place, rule, name)])
    return np.array(list(texts_of(column)), dtype=object)


def _part(table: Table, rows: np.ndarray, without: Iterable[str]) -> Table:
    """Some rows of a table, less some columns.

    Args:
        table: In memory or on disk. A column of another length is left as it is.
        rows: Which, bool (n,).
        without: The columns to leave out.
    """
    if isinstance(table, ParquetRows):
        return table.take(np.flatnonzero(rows), without)
    some = {name: column for name, column in table.items() if name not in without}
    return {name: column[rows] if len(column) == len(rows) else column for name, column in some.items()}
