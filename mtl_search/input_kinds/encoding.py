"""Raw columns to arrays: the first hop of every prediction, and of the data path after the sources.

A copy of this package lies in every exported model: a served row goes through what a training row went through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import INPUT_KINDS

if TYPE_CHECKING:
    from . import InputKind, Part

Encoded = tuple[np.ndarray, ...]


def parts_of(plain: Mapping[str, Any]) -> list[tuple[InputKind, Part]]:
    """The kinds of a preparation's plain form with their parts, in the order of their arrays: sparse ones last."""
    found = [(kind, part) for kind in INPUT_KINDS.values() if (part := kind.part_of(plain)) is not None]
    return sorted(found, key=lambda pair: pair[0].sparse)


def spec_of(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What ``encode`` needs of a preparation's plain form, which is all but what was fitted."""
    spec: dict[str, Any] = {"kind": plain["kind"]}
    for kind, part in parts_of(plain):
        spec |= kind.plain({key: value for key, value in part.items() if key not in kind.fitted})
    return spec


def input_columns(spec: Mapping[str, Any]) -> list[str]:
    """The raw columns that a spec names, in order."""
    return [name for kind, part in parts_of(spec) for name in kind.columns(part)]


def encode(columns: Mapping[str, Any], spec: Mapping[str, Any]) -> Encoded:
    """Turns raw columns into the arrays that a preparation takes.

    Args:
        columns: Column name to n values: arrays, lists as JSON gives them, or a data frame. Others are left alone.
        spec: What ``Preparation.spec`` says. Of a table: ``{"kind": "table", "numeric": [names], "categorical":
            {name: [categories]}, "missing": "error" | "impute"}`` and the parts of other kinds; of an array: ``{"kind":
            "array", "column": name, "shape": [...], "dtype": ...}``.

    Returns:
        One array (n, ...) for each kind of the spec. For a table these are numbers (n, d), with NaN where one is to be
        imputed, codes (n, c) int64, where 0 is a category never seen in training and 1, 2, … follow the spec, then
        the arrays of other kinds. For an array: values (n, *shape) of the spec's dtype.

    Raises:
        ValueError: A column is missing or has the wrong shape or length, or a value is not what the spec asks for.
    """
    encoded, sparse = encode_sparse(columns, spec)
    return encoded if sparse is None else (*encoded, sparse.toarray())


def encode_sparse(columns: Mapping[str, Any], spec: Mapping[str, Any]) -> tuple[Encoded, Any]:
    """What ``encode`` returns, the array of a sparse kind apart: as a scipy CSR matrix; None without one.

    Args:
        columns: As in ``encode``.
        spec: As in ``encode``.

    Raises:
        ValueError: As in ``encode``.
    """
    raw: dict[str, np.ndarray] = {}
    parts = parts_of(spec)
    for kind, part in parts:
        raw |= {name: kind.read(columns, name, part) for name in kind.columns(part)}
    first = next(iter(raw))
    rows = len(raw[first])
    for name, values in raw.items():
        if len(values) != rows:
            raise ValueError(f"column {name!r}: must have {rows} rows as {first!r} has, got {len(values)}")
    dense = tuple(kind.encode(raw, rows, part) for kind, part in parts if not kind.sparse)
    return dense, next((kind.encode(raw, rows, part) for kind, part in parts if kind.sparse), None)
