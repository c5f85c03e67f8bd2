"""Numbers: columns of single numbers, standardised; a missing one is the training mean with an indicator beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import Column, Fault, GivenColumn, InputKind, Part, StatedInputs, TrainingRows
from .faults import odd_fault
from .moments import moments_of
from .values import finite, numbers_of

if TYPE_CHECKING:
    from torch import nn

    from .column_stats import ColumnStats


class Number(InputKind):
    """A part: ``numeric`` (names), ``missing``, and of fitted values ``imputed`` (names with a gap), means and scales.

    ``dtype`` is ``float64`` where float32 would round away what tells rows apart. Every table has this part, if only
    without columns.
    """

    tensor = "numbers"
    heading = "numbers"
    fitted = frozenset({"imputed", "means", "scales"})
    written = "number"

    def part_of(self, plain: Mapping[str, Any]) -> Part | None:
        keys = ("numeric", "missing", "dtype", *self.fitted)
        return {key: plain[key] for key in keys if key in plain} if plain.get("kind") == "table" else None

    def plain(self, part: Part) -> dict[str, Any]:
        return dict(part)

    def claims(self, stats: Sequence[ColumnStats], listed: Collection[str], alone: bool) -> bool:
        return True  # what no other kind claims

    def check(self, given: Sequence[GivenColumn]) -> Iterator[Fault]:
        for column in given:
            stats, place, where = column.stats, column.place, column.where
            if stats.odd is not None:
                yield odd_fault(place, where, stats.odd)
            elif stats.strange or stats.words:
                kinds = "numbers" if stats.words else "numbers or text"
                yield Fault(place, f"must hold {kinds} {where}", stats.strange or stats.first)
            else:
                if stats.infinite is not None:
                    row, value = stats.infinite
                    yield Fault(place, f"must hold finite numbers {where}, in row {row} (from 0)", value)
                if stats.gap is not None and column.dataset.missing == "error":
                    rule = f"must hold a number in every row unless the source says `missing: impute` {where}"
                    yield Fault(place, f"{rule}, in row {stats.gap} (from 0)", float("nan"))

    def fit(self, names: Sequence[str], rows: TrainingRows, stated: StatedInputs) -> Part:
        part: dict[str, Any] = {"numeric": list(names), "missing": stated.missing}
        chunks = Encoded(self, rows, {**part, "dtype": "float64"}) if names else [np.empty((0, 0))]
        means, scales, gaps = moments_of([chunks], (len(names),), rounded=True)
        part |= {"imputed": [name for name, gap in zip(names, gaps, strict=True) if gap]}
        return part | fitted_moments(means, scales)

    def columns(self, part: Part) -> list[str]:
        return list(part["numeric"])

    def encode(self, raw: Mapping[str, np.ndarray], rows: int, part: Part) -> np.ndarray:
        numbers = np.empty((rows, len(part["numeric"])), dtype=part.get("dtype", "float32"))
        for index, name in enumerate(part["numeric"]):
            numbers[:, index] = finite(name, numbers_of(name, raw[name]), gaps_allowed(part), numbers.dtype)
        return numbers

    def row_of(self, part: Part) -> tuple[np.dtype[Any], tuple[int, ...]]:
        return np.dtype(part.get("dtype", "float32")), (len(part["numeric"]),)

    def features(self, part: Part) -> nn.Module:
        from .features import Standardised

        flagged = [part["numeric"].index(name) for name in part["imputed"]]
        return Standardised(part["means"], part["scales"], part.get("dtype", "float32"), flagged)

    def signature(self, part: Part) -> list[Column]:
        required = not gaps_allowed(part)
        return [Column(name, "number", "number", required) for name in part["numeric"]]

    def draw(
        self, part: Part, sample: Mapping[str, Sequence[Any]], size: int, generator: np.random.Generator
    ) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {}
        for name, scale in zip(part["numeric"], part["scales"], strict=True):
            known = [float(value) for value in sample[name] if value not in (None, "")] or [0.0]
            drawn: list[Any] = (generator.choice(known, size) + scale * generator.normal(size=size)).tolist()
            columns[name] = with_gaps(drawn, generator) if gaps_allowed(part) else drawn
        return columns

    def limits(self, part: Part) -> Iterator[str]:
        if gaps_allowed(part):
            yield "A missing number is taken for the training mean."

    def facts(self, part: Part) -> Iterator[tuple[str, Any]]:
        means = part.get("means", [])
        if len(part.get("numeric", ())) == len(means):
            yield from zip((f"mean of column {name}" for name in part.get("numeric", ())), means, strict=True)


class Encoded:
    """The rows of one kind's columns, encoded chunk by chunk; can be gone through again and again.

    Args:
        kind: The kind.
        rows: Training rows of all data sets.
        part: Of the kind, as ``encode`` needs it.
    """

    def __init__(self, kind: InputKind, rows: TrainingRows, part: Part) -> None:
        self._kind, self._rows, self._part = kind, rows, part

    def __iter__(self) -> Iterator[np.ndarray]:
        names = self._kind.columns(self._part)
        for chunk in self._rows.chunks(names):
            raw = {name: self._kind.read(chunk, name, self._part) for name in names}
            yield self._kind.encode(raw, len(raw[names[0]]), self._part)


def fitted_moments(means: np.ndarray, scales: np.ndarray) -> dict[str, Any]:
    """Means and scales as a part has them, with the dtype in which rows are standardised where it is not float32."""
    dtype = {"dtype": "float64"} if means.dtype == np.float64 else {}
    return {**dtype, "means": means.tolist(), "scales": scales.tolist()}


def gaps_allowed(part: Part) -> bool:
    """Whether a value may be missing, and is the training mean then."""
    return part.get("missing") == "impute"


def with_gaps(values: Sequence[Any], generator: np.random.Generator) -> list[Any]:
    """Values of which about one in five is missing."""
    return [None if generator.random() < 0.2 else value for value in values]
