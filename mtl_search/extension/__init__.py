"""Extension: new tasks for a model that was exported already, by name: a variant is one file and one line here.

`command.extend_model` is what ``mtl-search extend`` calls: it reads the exported model and a file in the form of a
study file, trains, judges the old tasks before and after, and writes a new exported model.
"""

from typing import TYPE_CHECKING

from mtl_search.variants.registry import Registry, import_on_use

if TYPE_CHECKING:
    from mtl_search.extension.base import Extension as Extension

EXTENSIONS: Registry["Extension"] = Registry(
    __name__,
    {
        "frozen": "frozen:Frozen",
        "lwf": "lwf:Lwf",
    },
)
__getattr__ = import_on_use(__name__, {"base": ["Extension"]}, EXTENSIONS)
