"""Vectors: columns whose rows are lists of equally many numbers, such as embeddings, standardised number by number.

They stand beside other columns. A list comes from Parquet or Python as it is, and from a CSV file as JSON text:
``"[0.1, 2, -3]"``. A missing list is the training mean with an indicator beside it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import Column, Fault, GivenColumn, InputKind, Part, StatedInputs, TrainingRows
from .moments import moments_of
from .number import Encoded, fitted_moments, gaps_allowed, with_gaps
from .values import finite, given_column, is_missing

if TYPE_CHECKING:
    from torch import nn

    from .column_stats import ColumnStats

_LISTS = (list, tuple, np.ndarray)


class Vector(InputKind):
    """A part: ``columns`` (name to length), ``missing``, and of fitted values ``imputed``, means and scales.

    ``imputed`` names the columns with a gap; means and scales are those of all numbers, column after column. ``dtype``
    is ``float64`` where float32 would round away what tells rows apart.
    """

    tensor = "vectors"
    heading = "lists of numbers"
    fitted = frozenset({"imputed", "means", "scales"})

    def claims(self, stats: Sequence[ColumnStats], listed: Collection[str], alone: bool) -> bool:
        if listed:
            return False
        arrays = [seen for seen in stats if seen.array]
        return any(map(_spells_lists, stats)) or (
            not alone and all(len(shape) <= 1 for seen in arrays for shape in seen.shapes) and _holds_lists(stats)
        )

    def check(self, given: Sequence[GivenColumn]) -> Iterator[Fault]:
        lengths: dict[str, int] = {}  # the first list of a column says how long all are
        for column in given:
            fault = next(_faults_in(column, lengths), None)
            if fault is not None:
                yield fault
            elif column.name not in lengths:
                yield Fault(column.place, f"must hold a list of numbers in some row {column.where}")

    def fit(self, names: Sequence[str], rows: TrainingRows, stated: StatedInputs) -> Part:
        lengths: dict[str, int] = {}
        for chunk in rows.chunks(names):
            for name in names:
                lists = (value for value in chunk[name] if not _is_gap(value))
                if name not in lengths and (first := next(lists, None)) is not None:
                    lengths[name] = len(_numbers_in(first))
            if len(lengths) == len(names):
                break
        part = {"columns": {name: lengths[name] for name in names}, "missing": stated.missing}
        encoded = Encoded(self, rows, {**part, "dtype": "float64"})
        means, scales, gaps = moments_of([encoded], (sum(lengths.values()),), rounded=True)
        imputed = [name for name, first in self._firsts(part).items() if gaps[first]]
        return {**part, "imputed": imputed, **fitted_moments(means, scales)}

    def _firsts(self, part: Part) -> dict[str, int]:
        """The place of each column's first number among all numbers."""
        lengths = list(part["columns"].values())
        return {name: sum(lengths[:index]) for index, name in enumerate(part["columns"])}

    def columns(self, part: Part) -> list[str]:
        return list(part["columns"])

    def read(self, columns: Mapping[str, Any], name: str, part: Part) -> np.ndarray:
        """Numbers (n, length) in float64; NaN in the rows that have none."""
        given, length = given_column(columns, name), part["columns"][name]
        rule = f"column {name!r}: must hold lists of {length} numbers"
        if isinstance(given, np.ndarray) and given.ndim == 2 and given.dtype.kind in "biuf":
            if given.shape[1] != length:
                raise ValueError(f"{rule}, got lists of {given.shape[1]}")
            return given.astype(np.float64)
        rows = np.full((len(given), length), np.nan)
        for row, value in enumerate(given):
            if _is_gap(value):
                continue
            try:
                numbers = _numbers_in(value)
            except ValueError:
                raise ValueError(f"{rule}, got {value!r} in row {row}") from None
            if len(numbers) != length:
                raise ValueError(f"{rule}, got one of {len(numbers)} in row {row}")
            rows[row] = numbers
        return rows

    def encode(self, raw: Mapping[str, np.ndarray], rows: int, part: Part) -> np.ndarray:
        dtype = self.row_of(part)[0]
        return np.concatenate([finite(name, raw[name], gaps_allowed(part), dtype) for name in part["columns"]], axis=1)

    def row_of(self, part: Part) -> tuple[np.dtype[Any], tuple[int, ...]]:
        return np.dtype(part.get("dtype", "float32")), (sum(part["columns"].values()),)

    def features(self, part: Part) -> nn.Module:
        from .features import Standardised

        firsts = self._firsts(part)
        flagged = [firsts[name] for name in part["imputed"]]
        return Standardised(part["means"], part["scales"], part.get("dtype", "float32"), flagged)

    def signature(self, part: Part) -> list[Column]:
        required = not gaps_allowed(part)
        return [
            Column(name, f"list of {length} numbers", "array", required, shape=(length,))
            for name, length in part["columns"].items()
        ]

    def describe(self, part: Part) -> list[str]:
        return [f"{name} ({length} numbers)" for name, length in part["columns"].items()]

    def draw(
        self, part: Part, sample: Mapping[str, Sequence[Any]], size: int, generator: np.random.Generator
    ) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {}
        for name, first in self._firsts(part).items():
            length = part["columns"][name]
            scales = np.asarray(part["scales"][first : first + length])
            known = [_numbers_in(value) for value in sample[name] if not _is_gap(value)] or [np.zeros(length)]
            picked = np.stack(known)[generator.integers(len(known), size=size)]
            drawn = (picked + scales * generator.normal(size=picked.shape)).tolist()
            columns[name] = with_gaps(drawn, generator) if gaps_allowed(part) else drawn
        return columns

    def limits(self, part: Part) -> Iterator[str]:
        if gaps_allowed(part):
            yield "A missing list of numbers is taken for the mean of the training rows."


def _holds_lists(stats: Sequence[ColumnStats]) -> bool:
    return any(any(seen.shapes) or (seen.odd is not None and _is_list(seen.odd[1])) for seen in stats)


def _is_list(value: Any) -> bool:
    """Whether a value is a list that begins with a number."""
    return isinstance(value, _LISTS) and (not len(value) or isinstance(value[0], int | float | np.number))


def _spells_lists(seen: ColumnStats) -> bool:
    """Whether the first text of a column is a list in JSON."""
    return next((text.strip().startswith("[") for text in seen.texts if text), False)


def _faults_in(column: GivenColumn, lengths: dict[str, int]) -> Iterator[Fault]:
    """What is wrong with a column's values, from the first row on."""
    place, first, dtype = column.place, 0, np.dtype(np.float32)
    for values in column.values:
        for row, value in enumerate(values, first):
            where = f"{column.where}, in row {row} (from 0)"
            if _is_gap(value):
                if column.dataset.missing == "error":
                    rule = "must hold a list of numbers in every row unless the source says `missing: impute`"
                    yield Fault(place, f"{rule} {where}", value)
                continue
            try:
                numbers = _numbers_in(value)
                finite(column.name, numbers, False, dtype)
            except ValueError:
                yield Fault(place, f"must hold lists of finite numbers (float32) {where}", value)
                continue
            length = lengths.setdefault(column.name, len(numbers))
            if len(numbers) != length or not length:
                yield Fault(place, f"must hold lists of one length, {length} numbers, {where}", len(numbers))
        first += len(values)


def _is_gap(value: Any) -> bool:
    return (isinstance(value, str) and not value.strip()) or (not isinstance(value, _LISTS) and is_missing(value))


def _numbers_in(value: Any) -> np.ndarray:
    """A list of numbers, or the JSON text of one, as an array (length,) of float64.

    Raises:
        ValueError: It is no such list.
    """
    found = json.loads(value) if isinstance(value, str) else value
    if not isinstance(found, _LISTS):
        raise ValueError("no list")
    numbers = np.asarray(found)
    if not numbers.size:
        return np.empty(0)
    if numbers.ndim != 1 or numbers.dtype.kind not in "biuf":
        raise ValueError("no list of numbers")
    return numbers.astype(np.float64)
