"""Arrays: one column whose rows are vectors, standardised feature by feature, or images, channel by channel."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import Column, Fault, GivenColumn, InputKind, Part, StatedInputs, TrainingRows
from .faults import odd_fault
from .moments import channels_last, moments_of
from .values import given_column

if TYPE_CHECKING:
    from torch import nn

    from .column_stats import ColumnStats


class ArrayKind(InputKind):
    """A part is a whole preparation: ``column``, ``shape`` of a row, its ``dtype``, and fitted means and scales.

    The dtype is ``uint8`` where all training rows are bytes, and ``float64`` where float32 would round away what tells
    rows apart.
    """

    tensor = "values"
    heading = "arrays"
    alone = True
    written = ""

    def part_of(self, plain: Mapping[str, Any]) -> Part | None:
        return plain if plain.get("kind") == "array" else None

    def plain(self, part: Part) -> dict[str, Any]:
        return {**part, "kind": "array"}

    def claims(self, stats: Sequence[ColumnStats], listed: Collection[str], alone: bool) -> bool:
        return any(seen.array for seen in stats)

    def check(self, given: Sequence[GivenColumn]) -> Iterator[Fault]:
        datasets = {column.dataset.place: column.dataset for column in given}
        if any(dataset.missing == "impute" for dataset in datasets.values()):
            yield Fault(f"{given[0].dataset.place}.missing", "has no effect on a column of arrays", "impute")
        for dataset in datasets.values():
            for option, marked in dataset.listed.items():
                if wrong := list(dict.fromkeys(column.name for column in given if column.name in marked)):
                    yield Fault(f"{dataset.place}.{option}", "has no effect on a column of arrays", wrong)
        for column in given:
            shape = next(each.stats.shape for each in given if each.name == column.name)
            stats, place, where = column.stats, column.place, column.where
            if stats.odd is not None:
                yield odd_fault(place, where, stats.odd)
            elif stats.strange or stats.words:
                yield Fault(place, f"must hold numbers {where}", stats.kind)
            elif set(stats.shapes) != {shape} or 0 in stats.shape:
                other = next((each for each in stats.shapes if each != shape), stats.shape)
                yield Fault(place, f"must hold rows of one shape, {shape}, {where}", other)
            elif stats.wrong is not None:
                row, value = stats.wrong
                yield Fault(place, f"must hold finite numbers {where}, in row {row} (from 0)", value)

    def fit(self, names: Sequence[str], rows: TrainingRows, stated: StatedInputs) -> Part:
        parts = rows.by_dataset(names[0])
        chunked = [[part] if isinstance(part, np.ndarray) else part for part in parts]
        shape = next(iter(chunked[0])).shape[1:]
        small = all(isinstance(part, np.ndarray) and part.dtype in (np.uint8, np.bool_) for part in parts)
        means, scales, _ = moments_of(chunked, shape)
        dtype = "uint8" if small else str(means.dtype)
        part = {"column": names[0], "shape": list(shape), "dtype": dtype}
        return {**part, "means": means.tolist(), "scales": scales.tolist()}

    def columns(self, part: Part) -> list[str]:
        return [part["column"]]

    def read(self, columns: Mapping[str, Any], name: str, part: Part) -> np.ndarray:
        shape = tuple(part["shape"])
        given = given_column(columns, name)
        try:
            values = np.asarray(given)
            if values.dtype == object:  # a data frame's column of lists
                values = np.asarray([np.asarray(value) for value in values.tolist()])
        except ValueError as error:
            raise ValueError(
                f"column {name!r}: must hold rows of the shape {shape}, got rows of different shapes"
            ) from error
        if values.shape[1:] != shape or values.ndim == 0:
            raise ValueError(f"column {name!r}: must hold rows of the shape {shape}, got the shape {values.shape[1:]}")
        if values.dtype.kind not in "biuf":
            first = values.reshape(-1)[:1].tolist()
            raise ValueError(f"column {name!r}: must hold numbers, got {values.dtype} ({first})")
        return values

    def encode(self, raw: Mapping[str, np.ndarray], rows: int, part: Part) -> np.ndarray:
        name = part["column"]
        if part["dtype"] == "uint8":
            return _bytes(name, raw[name])
        return _finite_rows(name, raw[name], np.dtype(part["dtype"]))

    def row_of(self, part: Part) -> tuple[np.dtype[Any], tuple[int, ...]]:
        return np.dtype(part["dtype"]), tuple(part["shape"])

    def features(self, part: Part) -> nn.Module:
        from .features import StandardisedArrays

        dtype = "float64" if part["dtype"] == "float64" else "float32"
        return StandardisedArrays(tuple(part["shape"]), part["means"], part["scales"], dtype)

    def signature(self, part: Part) -> list[Column]:
        shape = tuple(part["shape"])
        kind = "whole numbers from 0 to 255" if part["dtype"] == "uint8" else "numbers"
        holds = f"nested lists of the shape {shape}: {kind}"
        return [Column(part["column"], holds, "array", required=True, shape=shape, dtype=part["dtype"])]

    def describe(self, part: Part) -> list[str]:
        return [f"{part['column']} of shape {tuple(part['shape'])} ({part['dtype']})"]

    def draw(
        self, part: Part, sample: Mapping[str, Sequence[Any]], size: int, generator: np.random.Generator
    ) -> dict[str, list[Any]]:
        known = np.asarray(sample[part["column"]], dtype=np.float64)
        picked = known[generator.integers(len(known), size=size)]
        scales, shape = np.asarray(part["scales"]), tuple(part["shape"])
        if not channels_last(shape):
            scales = scales.reshape(-1, *(1 for _ in shape[1:])) if len(shape) != 2 else scales
        moved = picked + scales * 0.3 * generator.normal(size=picked.shape)
        if part["dtype"] == "uint8":
            moved = np.clip(np.round(moved), 0, known.max()).astype(np.uint8)
        values: list[Any] = moved.tolist()
        return {part["column"]: values}


def _bytes(name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "b" and values.dtype != np.uint8:
        wrong = ~((values >= 0) & (values <= 255) & (values == np.round(values)))
        if wrong.any():
            raise ValueError(f"column {name!r}: must hold whole numbers from 0 to 255, got {values[wrong].flat[0]}")
    return values.astype(np.uint8, copy=False)


def _finite_rows(name: str, values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    with np.errstate(over="ignore"):
        single = values.astype(np.float32, copy=False)
    if not np.isfinite(single).all():
        row = int((~np.isfinite(single)).reshape(len(single), -1).any(axis=1).argmax())
        wrong = values[row][~np.isfinite(single[row])].flat[0]
        raise ValueError(f"column {name!r}: must hold finite numbers (float32), none missing, got {wrong} in row {row}")
    return single if dtype == single.dtype else values.astype(dtype, copy=False)
