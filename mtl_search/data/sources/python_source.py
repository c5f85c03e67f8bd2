"""A user's own function as a source, for whatever no other source reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mtl_search.data.sources.base import Source
from mtl_search.errors import ConfigError, DataError, Problem
from mtl_search.variants.building import import_object


class PythonSource(Source):
    """Calls ``function(**params)``, which returns ``{"train": columns, "test": columns}``.

    Columns are a data frame, or column name -> array, tensor, series or list. "validation" and "test" may be left out.

    Args:
        function: ``package.module:function``.
        params: Keyword arguments of the function.
        inputs: Columns that the backbone sees; None for every column that is no task's target.
        categorical: Columns of numbers to be read as categories; columns of text are categories anyway.
        missing: What to do with a missing number among the inputs: refuse it, or put the training mean there.
    """

    def __init__(
        self,
        function: str,
        params: dict[str, Any] | None = None,
        inputs: list[str] | None = None,
        categorical: list[str] | None = None,
        missing: Literal["error", "impute"] = "error",
    ) -> None:
        super().__init__(inputs, categorical or (), missing)
        self._function, self._params = function, params or {}

    def _load(self) -> Mapping[str, Any]:
        try:
            function = import_object(self._function, "function")
        except ConfigError as error:
            raise DataError(error.problems) from error
        if not callable(function):
            raise DataError([Problem("function", "must name a function", self._function)])
        try:
            splits = function(**self._params)
        except Exception as error:  # user code: whatever it raises is the user's to read
            reason = f"must not raise ({type(error).__name__}: {error})"
            raise DataError([Problem("function", reason, self._function)]) from error
        if not isinstance(splits, Mapping):
            raise DataError([Problem("function", "must return a mapping of split names", type(splits).__name__)])
        return splits
