"""What a source is: the first hop of the data path, from a file, a bundle or a user's function to named columns."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mtl_search.errors import DataError, Problem
from mtl_search.input_kinds import INPUT_KINDS
from mtl_search.input_kinds.notation import ARRAYS
from mtl_search.input_kinds.values import EXACT, is_missing

if TYPE_CHECKING:
    import pandas as pd

    from mtl_search.data.sources.parquet_rows import ParquetRows

Columns = dict[str, np.ndarray]
Rows = TypeVar("Rows")
SPLITS = ("train", "validation", "test")
TEXT_FEATURES = 2**14
NGRAMS = 2


class Source(ABC):
    """Gives the rows of one data set; a variant's constructor is its schema in the study file.

    Attributes:
        inputs: Columns that the backbone sees; None for every column that is no task's target.
        exclude: Columns that it does not see, where ``inputs`` is None.
        categorical: Columns of numbers to be read as categories; columns of text are categories anyway.
        missing: What to do with a missing number among the inputs: "error", or "impute" the training mean.
        text: Columns of free text, which are no categories.
        text_features: Features that each column of free text becomes.
        ngrams: Longest run of words that counts as one word of free text.
    """

    def __init__(
        self,
        inputs: Iterable[str] | None = None,
        categorical: Iterable[str] = (),
        missing: str = "error",
        exclude: Iterable[str] = (),
        text: Iterable[str] = (),
        text_features: int = TEXT_FEATURES,
        ngrams: int = NGRAMS,
    ) -> None:
        self.inputs = None if inputs is None else tuple(inputs)
        self.categorical = tuple(categorical)
        self.missing = missing
        self.exclude = tuple(exclude)
        self.text = tuple(text)
        self.text_features, self.ngrams = text_features, ngrams

    @property
    def listed(self) -> dict[str, tuple[str, ...]]:
        """Key that names columns of one kind of input -> those columns."""
        return {kind.option: getattr(self, kind.option) for kind in INPUT_KINDS.values() if kind.option}

    def load(self, verbatim: Collection[str] = (), notes: list[str] | None = None) -> dict[str, Columns]:
        """Reads the data set.

        Args:
            verbatim: Columns whose values are kept as a file spells them: categories and labels.
            notes: Grows by what a user should know though it is no error; each begins with a place, as in `DataError`.

        Returns:
            Split name to columns (first axis: rows): "train", and "validation" and "test" where they are given. Numbers
            keep their dtype, with NaN where one is missing; text has the dtype object, and so have whole numbers
            beside a gap that float64 would round, in verbatim columns.

        Raises:
            DataError: What is wrong, at a place relative to this source ("path", "inputs").
        """
        splits: dict[str, Columns] = {}
        problems: list[Problem] = []
        for split, columns in self._read(verbatim, [] if notes is None else notes).items():
            if split not in SPLITS:
                problems.append(Problem("", "must give splits of known names", split, SPLITS))
                continue
            try:
                splits[split] = {
                    str(name): as_column(str(name), values, exact=str(name) in verbatim)
                    for name, values in _items(columns)
                }
            except ValueError as error:
                problems.append(Problem("", f"{error} (split {split})"))
        if problems:
            raise DataError(problems)
        return with_train(splits)

    def stream(self, verbatim: Collection[str] = (), notes: list[str] | None = None) -> dict[str, ParquetRows]:
        """As ``load``, but the rows stay on disk.

        Raises:
            DataError: What is wrong, as in ``load``; every source but tables in Parquet files has to be in memory.
        """
        raise DataError([Problem("", "must be a table of Parquet files where data.stream is true")])

    @abstractmethod
    def _load(self) -> Mapping[str, Any]:
        """Split name to a data frame, or to column name -> array, tensor, series or list."""

    def _read(self, verbatim: Collection[str], notes: list[str]) -> Mapping[str, Any]:
        """As ``_load``; a source of text files keeps verbatim columns as they are spelled."""
        return self._load()


def with_train(splits: dict[str, Rows]) -> dict[str, Rows]:
    """The splits, which have training rows.

    Raises:
        DataError: They have none.
    """
    if "train" not in splits:
        raise DataError([Problem("", "must give the split 'train'", tuple(splits))])
    return splits


def _items(columns: Any) -> Iterable[tuple[Any, Any]]:
    if not isinstance(columns, Mapping) and not is_frame(columns):
        raise ValueError(f"must be a mapping of columns or a data frame, got {type(columns).__name__}")
    return [(name, columns[name]) for name in columns]


def why_unreadable(error: Exception) -> str:
    """Why a file cannot be read, in one line and without its path, which stands beside it in a problem."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    first = said.strip().partition("\n")[0]
    return f"{type(error).__name__}: {first or 'it ends too early'}"


def as_column(name: str, values: Any, *, exact: bool = False) -> np.ndarray:
    """Any array-like as a numpy column: numbers, or objects that are texts.

    Args:
        name: What it is called.
        values: Its rows.
        exact: Whether whole numbers beside gaps stay objects where float64 would round them.

    Raises:
        ValueError: It is no column.
    """
    if is_frame(values):
        raise ValueError(f"must give a column one name only, got {name!r} twice")
    if _is_pandas(values, "Series"):
        array = _from_series(values, exact)
    elif hasattr(values, "detach"):  # a torch tensor; torch itself is not needed to read tables
        array = values.detach().cpu().numpy()
    elif isinstance(values, (list, tuple)):
        array = np.asarray(values, dtype=object)
    else:
        array = np.asarray(values)
    if array.ndim == 0:
        raise ValueError(f"column {name!r} must have a row axis, got the single value {array.item()!r}")
    if array.dtype.kind in "US":
        return array.astype(str).astype(object)
    return _from_objects(name, array, exact) if array.dtype == object else array


def is_frame(value: object) -> bool:
    """Whether a value is a data frame."""
    return _is_pandas(value, "DataFrame")


def _is_pandas(value: object, name: str) -> bool:
    """Whether a value is of a class of pandas, which is not imported for the answer: then nothing is."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, getattr(pandas, name))


def _from_series(series: pd.Series[Any], exact: bool) -> np.ndarray:
    import pandas as pd

    if isinstance(series.dtype, np.dtype) and series.dtype != object:
        return series.to_numpy()
    if pd.api.types.is_numeric_dtype(series.dtype) and not isinstance(series.dtype, pd.CategoricalDtype):
        if not series.isna().any():
            return series.to_numpy(dtype=bool if pd.api.types.is_bool_dtype(series.dtype) else series.dtype.type)
        if exact and pd.api.types.is_integer_dtype(series.dtype):
            return series.astype(object).to_numpy()
        if not pd.api.types.is_bool_dtype(series.dtype):
            return series.to_numpy(dtype=np.float64, na_value=np.nan)
    return series.astype(object).to_numpy()


def _is_long(value: object) -> bool:
    """Whether a value is a whole number that float64 may round."""
    if isinstance(value, Decimal):
        return value.is_finite() and abs(value) > EXACT
    return isinstance(value, (int, np.integer)) and abs(int(value)) > EXACT


def _from_objects(name: str, array: np.ndarray, exact: bool) -> np.ndarray:
    """Numbers among gaps as float64, cells that are arrays of one shape stacked, anything else as it is."""
    if array.ndim > 1:
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"column {name!r} must hold numbers where it holds arrays ({error})") from error
    if any(type(value) is str for value in array.tolist()):
        return array
    present = [value for value in array.tolist() if not is_missing(value)]
    if present and all(isinstance(value, (bool, np.bool_)) for value in present):
        return array.astype(bool) if len(present) == len(array) else array
    if exact and any(map(_is_long, present)):
        return array
    if all(isinstance(value, (Real, Decimal)) for value in present):
        return np.array([np.nan if is_missing(value) else float(value) for value in array.tolist()], dtype=np.float64)
    if present and all(isinstance(value, ARRAYS) for value in present):
        with suppress(TypeError, ValueError):  # a column of other arrays is refused where it is used
            return np.array([np.asarray(value, dtype=np.float64) for value in array.tolist()])
    return array
