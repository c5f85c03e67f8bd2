"""Where rows come from; a new source is one file here and one line in `SOURCES`."""

from typing import TYPE_CHECKING

from mtl_search.variants.registry import Registry, import_on_use

if TYPE_CHECKING:
    from mtl_search.data.sources.base import SPLITS as SPLITS
    from mtl_search.data.sources.base import Columns as Columns
    from mtl_search.data.sources.base import Source as Source
    from mtl_search.data.sources.rows import Rows as Rows

SOURCES: Registry["Source"] = Registry(
    __name__,
    {
        "sklearn": "sklearn_source:SklearnSource",
        "table": "table:TableSource",
        "arrays": "arrays:ArraysSource",
        "python": "python_source:PythonSource",
    },
)
__getattr__ = import_on_use(__name__, {"base": ["Columns", "SPLITS", "Source"], "rows": ["Rows"]}, SOURCES)
