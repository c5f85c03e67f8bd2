"""Tables in CSV or Parquet files, on this machine or behind any URL that fsspec or pyarrow opens."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

import pandas as pd

from mtl_search.data.sources.base import NGRAMS, TEXT_FEATURES, Source, as_column, with_train
from mtl_search.data.sources.csv_columns import CsvFormat, read_columns
from mtl_search.data.sources.files import Files, Table
from mtl_search.data.sources.parquet_rows import ParquetRows
from mtl_search.errors import DataError, Problem
from mtl_search.recipe import PositiveInt, Width

_PARQUET = (".parquet", ".pq")
_TEXT = tuple(f"{kind}{pack}" for kind in (".csv", ".tsv", ".txt") for pack in ("", ".gz", ".bz2", ".xz", ".zst"))


class TableSource(Source):
    """One table to be cut into splits, or a table per split.

    Args:
        path: File with all rows; or name the splits' own files instead.
        train: File with the training rows.
        validation: File with the validation rows; cut from the training rows if not given.
        test: File with the test rows; cut from the training rows if not given.
        inputs: Columns that the backbone sees; None for every column that is no task's target and has a name.
        exclude: Columns that it does not see, in place of a list of all others under ``inputs``.
        categorical: Columns of numbers to be read as categories; columns of text are categories anyway.
        text: Columns of free text, which are no categories.
        text_features: Features that each column of free text becomes.
        ngrams: Longest run of words that counts as one word of free text.
        missing: What to do with a missing number among the inputs: refuse it, or put the training mean there.
        where: Column to value: rows that hold all of these values are read, others are not.
        split_by: Column that says which split a row is of: "train", "validation" or "test".
        separator: Between the values of a CSV file; a comma (a tab for .tsv) if not given.
        decimal: The sign before the decimals of a number in a CSV file.
        thousands: The sign between groups of three digits of a number in a CSV file; none if not given.

    Paths are relative to the working folder, or URLs such as ``s3://bucket/table.parquet``; ``.gz``, ``.bz2``, ``.xz``
    and ``.zst`` are unpacked. The columns of ``where`` and ``split_by`` are no inputs.

    Categories, labels and the values of ``where`` are what the file says: ``00501`` is not ``501``. A number under
    ``where`` means every text that spells it; a text means itself.

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
        text_features: Width = TEXT_FEATURES,
        ngrams: PositiveInt = NGRAMS,
        missing: Literal["error", "impute"] = "error",
        where: dict[str, bool | int | float | str] | None = None,
        split_by: str | None = None,
        separator: str | None = None,
        decimal: Literal[".", ","] = ".",
        thousands: Literal[",", ".", " ", "'", "_"] | None = None,
    ) -> None:
        super().__init__(inputs, categorical or (), missing, exclude or (), text or (), text_features, ngrams)
        self._files = Files(path, {"train": train, "validation": validation, "test": test}, where or {}, split_by)
        self._separator, self._decimal, self._thousands = separator, decimal, thousands

    def _load(self) -> Mapping[str, Any]:
        return self._read((), [])

    def _read(self, verbatim: Collection[str], notes: list[str]) -> Mapping[str, Any]:
        self._check()
        verbatim = {*verbatim, *self._files.chosen_by}
        return self._files.read(lambda path, place: self._in_memory(path, place, verbatim, notes))

    def stream(self, verbatim: Collection[str] = (), notes: list[str] | None = None) -> dict[str, ParquetRows]:
        if self.text:
            raise DataError([Problem("text", "must be empty where data.stream is true", self.text)])
        self._check()
        verbatim = {*verbatim, *self._files.chosen_by}
        splits: dict[str, Any] = self._files.read(lambda path, place: self._on_disk(path, place, verbatim))
        return with_train(splits)

    def _check(self) -> None:
        """Raises what is wrong with the settings, whatever the files hold."""
        if problems := [*self._idle(), *self._files.contradictions()]:
            raise DataError(problems)

    def _idle(self) -> Iterator[Problem]:
        """What is written and would have no effect."""
        for name, value, usual in (
            ("text_features", self.text_features, TEXT_FEATURES),
            ("ngrams", self.ngrams, NGRAMS),
        ):
            if value != usual and not self.text:
                yield Problem(name, "has no effect without 'text'", value)
        if self._thousands == self._decimal:
            yield Problem("thousands", "must not be what stands before the decimals ('decimal')", self._thousands)
        for place in ("inputs", "exclude", "categorical", "text"):
            for name in set(self._files.chosen_by).intersection(getattr(self, place) or ()):
                yield Problem(place, "must not list a column of 'where' or 'split_by', which is no input anyway", name)

    def _on_disk(self, path: str, place: str, verbatim: Collection[str]) -> ParquetRows:
        if not _bare(path).endswith(_PARQUET):
            raise DataError([Problem(place, "must end as Parquet does where data.stream is true", path, _PARQUET)])
        self._check_parquet()
        table = ParquetRows(path, verbatim=verbatim, place=place)
        if not table.rows:
            raise DataError([Problem(place, f"must hold at least one row (split {place})", 0)])
        return table

    def _check_parquet(self) -> None:
        """Raises where the settings say how a CSV file is written."""
        given = {"separator": self._separator, "decimal": self._decimal, "thousands": self._thousands}
        idle = {name: value for name, value in given.items() if value not in (None, ".")}
        if idle:
            raise DataError([Problem(name, "has no effect on a Parquet file", value) for name, value in idle.items()])

    def _in_memory(self, path: str, place: str, verbatim: Collection[str], notes: list[str]) -> Table:
        name = _bare(path)
        if name.endswith(_PARQUET):
            self._check_parquet()
            return _read_parquet(path, verbatim)
        if not name.endswith(_TEXT):
            raise DataError([Problem(place, "must end as a known format does", path, (*_TEXT, *_PARQUET))])
        separator = self._separator or ("\t" if ".tsv" in name else ",")
        form = CsvFormat(separator, self._decimal, self._thousands)
        return read_columns(path, form, verbatim, place, notes)


def _bare(path: str) -> str:
    """A path or URL as its ending is looked at."""
    return path.lower().partition("?")[0] if "://" in path else path.lower()


def _read_parquet(path: str, verbatim: Collection[str]) -> Table:
    """A table's columns. In verbatim columns whole numbers beside gaps stay whole, because float64 drops digits."""
    frame = pd.read_parquet(path)
    columns: dict[str, Any] = {name: frame[name] for name in frame.columns}
    gaps = [
        name for name in verbatim if name in columns and columns[name].dtype == float and columns[name].isna().any()
    ]
    exact: Any = pd.read_parquet(path, columns=gaps, dtype_backend="numpy_nullable") if gaps else {}
    columns |= {name: exact[name] for name in gaps if pd.api.types.is_integer_dtype(exact[name].dtype)}
    return {name: as_column(str(name), column, exact=str(name) in verbatim) for name, column in columns.items()}
