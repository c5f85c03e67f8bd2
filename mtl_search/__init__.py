"""mtl_search: one backbone and N related tasks -> the best single multi-task model, by search, on a cluster.

    import mtl_search

    study = mtl_search.run_study("quickstart")
    study.best, study.trials, study.predict(rows)
    study.export("digit-model", formats=["pt2", "onnx"])

Nothing is imported until a name is asked for: neither PyTorch nor Ray starts with ``import mtl_search``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl_search.api import Best, StudyResult, open_study, run_study, train
    from mtl_search.data.sources import Rows
    from mtl_search.errors import MtlSearchError
    from mtl_search.fusion import Fusion
    from mtl_search.models.backbones import Backbone
    from mtl_search.models.sharing import Sharing
    from mtl_search.recipe import Recipe
    from mtl_search.weighting import Weighting

_HOMES = {
    "Backbone": "mtl_search.models.backbones",
    "Best": "mtl_search.api",
    "Fusion": "mtl_search.fusion",
    "MtlSearchError": "mtl_search.errors",
    "Recipe": "mtl_search.recipe",
    "Rows": "mtl_search.data.sources",
    "Sharing": "mtl_search.models.sharing",
    "StudyResult": "mtl_search.api",
    "Weighting": "mtl_search.weighting",
    "open_study": "mtl_search.api",
    "run_study": "mtl_search.api",
    "train": "mtl_search.api",
}
__all__ = [
    "Backbone",
    "Best",
    "Fusion",
    "MtlSearchError",
    "Recipe",
    "Rows",
    "Sharing",
    "StudyResult",
    "Weighting",
    "open_study",
    "run_study",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
