"""Preparations for tests, fitted on columns as a study would fit them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtl_search.data.sources.parquet_rows import ChunkedRows
from mtl_search.input_kinds.preparation import Preparation


@dataclass(frozen=True)
class Stated:
    missing: str = "error"
    hashing: tuple[int, int] = (16, 1)
    listed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    name: str = "data"
    place: str = "data.source.table"


def fitted(
    kinds: Mapping[str, str], rows: Sequence[Mapping[str, Any]] | Mapping[str, Any], **stated: Any
) -> Preparation:
    """A preparation of columns by their kinds, fitted on the rows of one data set or several."""
    parts = [rows] if isinstance(rows, Mapping) else list(rows)
    return Preparation.fit(kinds, ChunkedRows(parts), Stated(**stated))


def fitted_table(
    rows: Mapping[str, Any], numeric: Sequence[str], categorical: Sequence[str] = (), missing: str = "error"
) -> Preparation:
    kinds = dict.fromkeys(numeric, "number") | dict.fromkeys(categorical, "category")
    return fitted(kinds, rows, missing=missing)


def fitted_array(parts: Sequence[np.ndarray], column: str = "x") -> Preparation:
    return fitted({column: "array"}, [{column: part} for part in parts])
