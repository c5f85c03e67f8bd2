"""Where rows come from; a new source is one file here and one line in `SOURCES`."""

from mtl_search.data.sources.arrays import ArraysSource
from mtl_search.data.sources.base import SPLITS, Columns, Source
from mtl_search.data.sources.python_source import PythonSource
from mtl_search.data.sources.rows import Rows
from mtl_search.data.sources.sklearn_source import SklearnSource
from mtl_search.data.sources.table import TableSource

SOURCES: dict[str, type[Source]] = {
    "sklearn": SklearnSource,
    "table": TableSource,
    "arrays": ArraysSource,
    "python": PythonSource,
}

__all__ = ["SOURCES", "SPLITS", "Columns", "Rows", "Source"]
