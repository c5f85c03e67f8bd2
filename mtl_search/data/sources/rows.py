"""Rows that a user hands over in Python: data frames, arrays, tensors and data sets of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from mtl_search.data.sources.base import Columns, Source, as_column
from mtl_search.errors import DataError, Problem


class Rows(Source):
    """Rows in memory, with the settings that a source in a study file has.

    Each split is a data frame; a mapping of column name to array, tensor, series or list; a map-style torch data set
    whose items are mappings, or tuples with ``columns`` to name their parts; or a tuple of arrays with ``columns``.

    Args:
        train: Rows to train on, and to cut the splits from that are not given.
        validation: Rows to choose by.
        test: Rows that are read once, for the winner.
        columns: Names of the parts of a tuple, in order.
        inputs: Columns that the backbone sees; None for every column that is no task's target.
        categorical: Columns of numbers to be read as categories; columns of text are categories anyway.
        missing: What to do with a missing number among the inputs: refuse it, or put the training mean there.
        exclude: Columns that the backbone does not see, where ``inputs`` is None.
        text: Columns of free text, which are no categories.

    Raises:
        DataError: A split has another form.
    """

    def __init__(
        self,
        train: Any,
        validation: Any = None,
        test: Any = None,
        *,
        columns: Sequence[str] | None = None,
        inputs: str | Iterable[str] | None = None,
        categorical: Iterable[str] = (),
        missing: Literal["error", "impute"] = "error",
        exclude: Iterable[str] = (),
        text: Iterable[str] = (),
    ) -> None:
        super().__init__([inputs] if isinstance(inputs, str) else inputs, categorical, missing, exclude, text)
        given = {"train": train, "validation": validation, "test": test}
        names = None if columns is None else list(columns)
        self._splits: dict[str, Columns] = {}
        for split, rows in given.items():
            if rows is not None:
                try:
                    self._splits[split] = _columns(rows, names)
                except ValueError as error:
                    raise DataError([Problem(split, str(error))]) from error
        if names is not None and all(_has_names(rows) for rows in given.values() if rows is not None):
            raise DataError([Problem("columns", "has no effect: the rows name their columns themselves", names)])

    def __deepcopy__(self, memo: dict[int, Any]) -> Rows:
        return self  # nobody changes it, and rows may be many

    def _load(self) -> Mapping[str, Any]:
        return self._splits


def _has_names(rows: Any) -> bool:
    if isinstance(rows, pd.DataFrame | Mapping):
        return True
    return not isinstance(rows, tuple | list) and _is_dataset(rows) and len(rows) > 0 and isinstance(rows[0], Mapping)


def _columns(rows: Any, names: list[str] | None) -> Columns:
    """The rows by column.

    Raises:
        ValueError: They are of another form.
    """
    if isinstance(rows, pd.DataFrame | Mapping):
        return {str(name): as_column(str(name), rows[name], exact=True) for name in rows}
    if isinstance(rows, tuple | list):
        parts: Sequence[Any] = rows
    elif hasattr(rows, "tensors"):  # a TensorDataset
        parts = rows.tensors
    elif _is_dataset(rows):
        items = [rows[number] for number in range(len(rows))]
        if items and isinstance(items[0], Mapping):
            return {str(name): _stacked(str(name), [item[name] for item in items]) for name in items[0]}
        if not items or not isinstance(items[0], tuple | list):
            raise ValueError("must give items that are mappings or tuples" if items else "must hold at least one row")
        parts = [_stacked(str(number), part) for number, part in enumerate(zip(*items, strict=True))]
    else:
        raise ValueError(
            "must be a data frame, a mapping of columns, or a torch data set with a length "
            f"(one array alone tells no task from its inputs), got {type(rows).__name__}"
        )
    if names is None or len(names) != len(parts):
        got = "none" if names is None else ", ".join(names)
        raise ValueError(f"must come with columns, a name for each of the {len(parts)} parts of a row, got {got}")
    return {name: as_column(name, part, exact=True) for name, part in zip(names, parts, strict=True)}


def _is_dataset(rows: Any) -> bool:
    """Whether rows can be counted and asked for by number; an array is no data set."""
    return hasattr(rows, "__getitem__") and hasattr(rows, "__len__") and not hasattr(rows, "__array__")


def _stacked(name: str, values: Sequence[Any]) -> np.ndarray:
    """One part of every row as a column.

    Raises:
        ValueError: The parts are no numbers, texts, arrays or tensors, or differ in shape.
    """
    if hasattr(values[0], "detach"):
        return as_column(name, np.stack([value.detach().cpu().numpy() for value in values]))
    if isinstance(values[0], np.ndarray | np.generic) or all(isinstance(value, int | float) for value in values):
        return as_column(name, np.asarray(values))
    if not isinstance(values[0], bool | int | float | str | list | type(None)):
        kind = type(values[0]).__name__
        raise ValueError(f"must give tensors, arrays, numbers or text in {name!r}, got {kind}")
    return as_column(name, list(values), exact=True)
