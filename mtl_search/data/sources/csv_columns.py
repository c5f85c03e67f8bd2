"""Columns of a CSV file: numbers for quantities, and texts as they are spelled for categories and labels.

A `table` source reads text files with it. As a number, ``00501`` loses its zeros, and ``1234567890123456789`` loses its
last digits beside a gap.
"""

from __future__ import annotations

import csv
import re
import sys
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pandas as pd

from mtl_search.errors import DataError, Problem
from mtl_search.input_kinds.values import NUMBER_GAPS, TRUTHS, number_in, respelled, text_of

_SPACES = "[ \u00a0\u202f]"


@dataclass(frozen=True)
class CsvFormat:
    """How a CSV file is written.

    Attributes:
        separator: Between two values.
        decimal: Before the decimals of a number.
        thousands: Between groups of three digits; None where there are no groups.
    """

    separator: str = ","
    decimal: str = "."
    thousands: str | None = None

    @property
    def plain(self) -> bool:
        """Whether numbers are written as Python writes them."""
        return self.decimal == "." and self.thousands is None

    def respell(self, texts: pd.Series[Any]) -> pd.Series[Any]:
        """Numbers as Python writes them; a text that is no number in this format becomes a gap."""
        if self.plain:
            return texts
        point, group = re.escape(self.decimal), r"(?!)"
        if self.thousands is not None:
            group = _SPACES if self.thousands == " " else re.escape(self.thousands)
        digits = rf"(?:\d{{1,3}}(?:{group}\d{{3}})+|\d+)(?:{point}\d*)?|{point}\d+"
        number, groups = re.compile(rf"\s*[+-]?(?:{digits})(?:[eE][+-]?\d+)?\s*"), re.compile(group)

        def respelled(text: str) -> str | float:
            return groups.sub("", text).replace(self.decimal, ".") if number.fullmatch(text) else np.nan

        return texts.astype(object).map(respelled, na_action="ignore")


def read_columns(
    path: str, form: CsvFormat, verbatim: Collection[str], place: str, notes: list[str]
) -> dict[str, pd.Series[Any]]:
    """Reads a CSV file.

    Args:
        path: The file, or a URL.
        form: How it is written.
        verbatim: Columns whose values are kept as the file spells them.
        place: Key path of the file, for problems and notes.
        notes: Grows by what a user should know of the file.

    Raises:
        DataError: Two columns have one name.
        ValueError: It is no table, as `pandas.read_csv` says.
        OSError: It cannot be read.
    """
    options: dict[str, Any] = {"sep": form.separator, "index_col": False, "keep_default_na": False}
    with warnings.catch_warnings():
        # Without index_col=False, pandas takes surplus values as row names and shifts every column by one.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        header = pd.read_csv(path, header=None, nrows=1, dtype=str, **options).iloc[0]
        if twice := [name for name in header[header.duplicated()] if name]:
            rule = f"must give every column a name of its own ({path} has this one twice)"
            raise DataError([Problem(place, rule, twice[0])])
        options |= {"na_values": [""], "low_memory": False, "decimal": form.decimal}
        try:
            frame = pd.read_csv(path, dtype=dict.fromkeys(verbatim, str), **options)
        except pd.errors.ParserWarning as error:
            rule = (
                f"must name a column for each value of a row, with {form.separator!r} between them (`separator` of a "
                f"table says which); the first name of {path} is"
            )
            raise DataError([Problem(place, rule, header.iloc[0])]) from error
    if len(frame.columns) > 1 and frame.iloc[:, -1].isna().any():
        short = list(_short_rows(path, form.separator, frame))
        if short:
            notes.append(
                f"{place}: {len(short)} of {len(frame)} rows of {path} are shorter than its header, the first is row "
                f"{short[0]} (from 0): the values that they lack count as missing"
            )
    return {
        str(name): _as_spelled(frame[name]) if name in verbatim else _as_numbers(frame[name], form)
        for name in frame.columns
    }


def _short_rows(path: str, separator: str, frame: pd.DataFrame) -> Iterator[int]:
    """Numbers of the rows that have fewer values than the table has columns, which pandas fills up with gaps."""
    if len(separator) > 1:  # blanks of any number, between which no value can be empty
        yield from np.flatnonzero(frame.iloc[:, -1].isna()).tolist()
        return
    limit = csv.field_size_limit(sys.maxsize)
    try:
        with fsspec.open(path, "rt", compression="infer", encoding="utf-8", newline="") as file:
            rows = (row for row in csv.reader(file, delimiter=separator) if len(row) > 1 or "".join(row).strip())
            next(rows)
            yield from (number for number, row in enumerate(rows) if len(row) < len(frame.columns))
    finally:
        csv.field_size_limit(limit)


def _as_numbers(column: pd.Series[Any], form: CsvFormat) -> pd.Series[Any]:
    """A column of numbers, perhaps among words such as NA, as numbers; any other as it is."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column
    gaps = column.isin(NUMBER_GAPS)
    if form.plain and not gaps.any():
        return column
    spelled = form.respell(column.mask(gaps))
    numbers = pd.to_numeric(spelled, errors="coerce")
    if (numbers.notna() | gaps | column.isna()).all():
        return numbers
    # Numbers among marks for a missing label, which the task knows.
    mostly = not form.plain and numbers.notna().sum() >= column.notna().sum() / 2
    return spelled.where(numbers.notna(), column) if mostly else column


def _as_spelled(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column of texts as it is; as truth values or numbers where these have the very same texts."""
    texts = column.dropna().unique().tolist()
    words = [text for text in texts if text not in NUMBER_GAPS]
    if words and len(words) == len(texts) and TRUTHS.keys() >= set(words):
        truths = column.map(TRUTHS)
        return truths.astype(object if column.isna().any() else bool)
    if any(number_in(text) is None for text in words):
        return column
    column = column.astype(object).mask(column.isin(NUMBER_GAPS))
    numbers = pd.to_numeric(column, errors="coerce")
    categories = {text: respelled(text) for text in words}
    first = ~column.duplicated() & column.notna()
    if all(text_of(number) == categories[text] for text, number in zip(column[first], numbers[first], strict=True)):
        return numbers
    return column.map(categories)
