"""Tables in CSV or Parquet files, on this machine or behind any URL that fsspec or pyarrow opens."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from mtl_search.data.sources.base import Source
from mtl_search.errors import DataError, Problem

_PARQUET = (".parquet", ".pq")
_TEXT = tuple(f"{kind}{pack}" for kind in (".csv", ".tsv", ".txt") for pack in ("", ".gz", ".bz2", ".xz", ".zst"))
# How others write a missing number. In a column of text they stay what they are: "NA" is Namibia too.
_GAPS = {"NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>", "#N/A"}
_UNREADABLE = (OSError, EOFError, zlib.error, ImportError, ValueError, pd.errors.ParserWarning, pa.ArrowException)


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
        missing: What to do with a missing number among the inputs: refuse it, or put the training mean there.
        separator: Between the values of a CSV file; a comma (a tab for .tsv) if not given.

    Paths are relative to the working folder, or URLs such as ``s3://bucket/table.parquet``; ``.gz``, ``.bz2``, ``.xz``
    and ``.zst`` are unpacked.
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
        missing: Literal["error", "impute"] = "error",
        separator: str | None = None,
    ) -> None:
        super().__init__(inputs, categorical or (), missing, exclude or ())
        self._separator = separator
        self._whole = path
        self._parts = {
            split: part
            for split, part in (("train", train), ("validation", validation), ("test", test))
            if part is not None
        }

    def _load(self) -> Mapping[str, Any]:
        if (self._whole is None) == ("train" not in self._parts) or (self._whole is not None and self._parts):
            rule = "must be given, or else the splits' own files 'train', 'validation' and 'test'; not both"
            raise DataError([Problem("path", rule, self._whole)])
        files = self._parts if self._whole is None else {"train": self._whole}
        splits: dict[str, Mapping[Any, pd.Series[Any]]] = {}
        problems: list[Problem] = []
        for split, path in files.items():
            place = split if self._whole is None else "path"
            try:
                splits[split] = self._read(path, place)
            except DataError as error:
                problems += error.problems
            except _UNREADABLE as error:
                reason = str(error).strip().split("\n")[0] or "it ends too early"
                problems.append(Problem(place, f"must be a readable file ({type(error).__name__}: {reason})", path))
        if problems:
            raise DataError(problems)
        return splits

    def _read(self, path: str, place: str) -> Mapping[Any, pd.Series[Any]]:
        name = path.lower().partition("?")[0] if "://" in path else path.lower()
        if name.endswith(_PARQUET):
            if self._separator is not None:
                raise DataError([Problem("separator", "has no effect on a Parquet file", self._separator)])
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


def _with_gaps(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column of numbers among words such as NA as numbers; any other as it is."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column
    gaps = column.isin(_GAPS)
    if not gaps.any():
        return column
    numbers = pd.to_numeric(column.mask(gaps), errors="coerce")
    return numbers if (numbers.notna() | gaps | column.isna()).all() else column
