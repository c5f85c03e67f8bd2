"""Tables in CSV or Parquet files, on this machine or behind any URL that fsspec or pyarrow opens."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from mtl_search.data.encoding import text_of, texts_of
from mtl_search.data.sources.base import (
    NGRAMS,
    SPLITS,
    TEXT_FEATURES,
    Source,
    as_column,
    shown,
    why_unreadable,
    with_train,
)
from mtl_search.data.sources.parquet_rows import ParquetRows
from mtl_search.errors import DataError, Problem
from mtl_search.recipe import PositiveInt

_PARQUET = (".parquet", ".pq")
_TEXT = tuple(f"{kind}{pack}" for kind in (".csv", ".tsv", ".txt") for pack in ("", ".gz", ".bz2", ".xz", ".zst"))
# How others write a missing number. In a column of text they stay what they are: "NA" is Namibia too.
_GAPS = {"NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>", "#N/A"}
_UNREADABLE = (OSError, EOFError, zlib.error, ImportError, ValueError, pd.errors.ParserWarning, pa.ArrowException)
_Table = Mapping[Any, Any]  # column name to a series or an array


class TableSource(Source):
    """One table to be cut into splits, or a table per split.

    Args:
        path: File with all rows; or name the splits' own files instead.
        train: File with the training rows.
        validation: File with the validation rows; cut from the training rows if not given.
        test: File with the test rows; cut from the training rows if not given.
        inputs: Columns that the backbone sees; None for every column that is no task's target.
        exclude: Columns that it does not see, in place of a list of all others under ``inputs``.
        categorical: Columns of numbers to be read as categories; columns of text are categories anyway.
        text: Columns of free text, which are no categories.
        text_features: Features that each column of free text becomes.
        ngrams: Longest run of words that counts as one word of free text.
        missing: What to do with a missing number among the inputs: refuse it, or put the training mean there.
        where: Column to value: rows that hold all of these values are read, others are not.
        split_by: Column that says which split a row is of: "train", "validation" or "test".
        separator: Between the values of a CSV file; a comma (a tab for .tsv) if not given.

    Paths are relative to the working folder, or URLs such as ``s3://bucket/table.parquet``; ``.gz``, ``.bz2``, ``.xz``
    and ``.zst`` are unpacked. The columns of ``where`` and ``split_by`` are no inputs.

    Free text becomes counts of its words (two letters or more, in lower case) and runs of words, each put in a place
    that its hash says, with a sign, and scaled to the length 1. Nothing is fitted, so a word that training never saw
    has its place too; several may share one. A missing text is an empty one: all zeros.
    """

    def __init__(
        self,
        path: str | None = None,
        train: str | None = None,
        validation: str | None = None,
        test: str | None = None,
        inputs: list[str] | None = None,
        exclude: list[str] | None = None,
        categorical: list[str] | None = None,
        text: list[str] | None = None,
        text_features: PositiveInt = TEXT_FEATURES,
        ngrams: PositiveInt = NGRAMS,
        missing: Literal["error", "impute"] = "error",
        where: dict[str, bool | int | float | str] | None = None,
        split_by: str | None = None,
        separator: str | None = None,
    ) -> None:
        super().__init__(inputs, categorical or (), missing, exclude or (), text or (), text_features, ngrams)
        self._where = where or {}
        self._split_by = split_by
        self._separator = separator
        self._whole = path
        self._parts = {
            split: part
            for split, part in (("train", train), ("validation", validation), ("test", test))
            if part is not None
        }

    def _load(self) -> Mapping[str, Any]:
        return self._splits(self._read)

    def stream(self) -> dict[str, ParquetRows]:
        problems = [Problem("text", "must be empty where data.stream is true", self.text)] if self.text else []
        if problems:
            raise DataError(problems)
        return with_train(self._splits(self._on_disk))

    def _splits(self, read: Callable[[str, str], _Table]) -> dict[str, Any]:
        if problems := list(self._idle()):
            raise DataError(problems)
        if (self._whole is None) == ("train" not in self._parts) or (self._whole is not None and self._parts):
            rule = "must be given, or else the splits' own files 'train', 'validation' and 'test'; not both"
            raise DataError([Problem("path", rule, self._whole)])
        files = self._parts if self._whole is None else {"train": self._whole}
        splits: dict[str, Any] = {}
        for split, path in files.items():
            place = split if self._whole is None else "path"
            try:
                splits |= self._selected(split, read(path, place))
            except DataError as error:
                problems += error.problems
            except _UNREADABLE as error:
                problems.append(Problem(place, f"must be a readable file ({why_unreadable(error)})", path))
        if problems:
            raise DataError(problems)
        return splits

    def _idle(self) -> Iterator[Problem]:
        """What is written and would have no effect."""
        for name, value, usual in (
            ("text_features", self.text_features, TEXT_FEATURES),
            ("ngrams", self.ngrams, NGRAMS),
        ):
            if value != usual and not self.text:
                yield Problem(name, "has no effect without 'text'", value)
        if self._split_by is not None and self._whole is None:
            yield Problem("split_by", "has no effect where the splits have their own files", self._split_by)
        used = {*self._where, *([] if self._split_by is None else [self._split_by])}
        for place in ("inputs", "exclude", "categorical", "text"):
            for name in used.intersection(getattr(self, place) or ()):
                yield Problem(place, "must not list a column of 'where' or 'split_by', which is no input anyway", name)

    def _selected(self, split: str, table: _Table) -> dict[str, _Table]:
        """The rows that ``where`` leaves, by the split that ``split_by`` says they are of.

        Raises:
            DataError: A column is missing, no row is left, or a row is of no known split.
        """
        names = [("where", name) for name in self._where]
        names += [] if self._split_by is None else [("split_by", self._split_by)]
        if not names:
            return {split: table}
        rule = f"must name columns of the table (split {split})"
        if lost := [Problem(place, rule, name, shown(map(str, table))) for place, name in names if name not in table]:
            raise DataError(lost)
        texts = {name: np.array(list(texts_of(as_column(name, table[name]))), dtype=object) for _, name in names}
        kept = np.ones(len(texts[names[0][1]]), dtype=bool)
        for name, value in self._where.items():
            kept &= texts[name] == text_of(value)
        if not kept.any():
            raise DataError([Problem("where", f"must leave at least one row (split {split})", self._where)])
        parts = {split: kept}
        if self._split_by is not None:
            found = texts[self._split_by]
            if unknown := sorted(set(found[kept]) - set(SPLITS)):
                raise DataError([Problem("split_by", "must name a column of splits' names", unknown[0], SPLITS)])
            parts = {name: kept & (found == name) for name in SPLITS}
        return {name: _part(table, rows, texts) for name, rows in parts.items() if rows.any()}

    def _on_disk(self, path: str, place: str) -> ParquetRows:
        if not _bare(path).endswith(_PARQUET):
            raise DataError([Problem(place, "must end as Parquet does where data.stream is true", path, _PARQUET)])
        self._no_separator()
        table = ParquetRows(path)
        if not table.rows:
            raise DataError([Problem(place, f"must hold at least one row (split {place})", 0)])
        return table

    def _no_separator(self) -> None:
        if self._separator is not None:
            raise DataError([Problem("separator", "has no effect on a Parquet file", self._separator)])

    def _read(self, path: str, place: str) -> _Table:
        name = _bare(path)
        if name.endswith(_PARQUET):
            self._no_separator()
            frame = pd.read_parquet(path)
            return {name: frame[name] for name in frame.columns}
        if not name.endswith(_TEXT):
            raise DataError([Problem(place, "must end as a known format does", path, (*_TEXT, *_PARQUET))])
        separator = self._separator or ("\t" if ".tsv" in name else ",")
        with warnings.catch_warnings():
            # Without index_col=False, pandas takes surplus values as row names and shifts every column by one.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path, sep=separator, index_col=False, keep_default_na=False, na_values=[""], low_memory=False
            )
        return {str(name): _with_gaps(frame[name]) for name in frame.columns}


def _bare(path: str) -> str:
    """A path or URL as its ending is looked at."""
    return path.lower().partition("?")[0] if "://" in path else path.lower()


def _part(table: _Table, rows: np.ndarray, without: Iterable[str]) -> _Table:
    """Some rows of a table, less some columns.

    Args:
        table: In memory or on disk.
        rows: Which, bool (n,).
        without: The columns to leave out.
    """
    if isinstance(table, ParquetRows):
        return table.take(np.flatnonzero(rows), without)
    return {name: column[rows] for name, column in table.items() if name not in without}


def _with_gaps(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column of numbers among words such as NA as numbers; any other as it is."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column
    gaps = column.isin(_GAPS)
    if not gaps.any():
        return column
    numbers = pd.to_numeric(column.mask(gaps), errors="coerce")
    return numbers if (numbers.notna() | gaps | column.isna()).all() else column
