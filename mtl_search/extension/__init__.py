"""Extension: new tasks for a model that was exported already, by name: a variant is one file and one line here.

`command.extend_model` is what ``mtl-search extend`` calls: it reads the exported model and a file in the form of a
study file, trains, judges the old tasks before and after, and writes a new exported model.
"""

from mtl_search.extension.base import Extension
from mtl_search.extension.frozen import Frozen
from mtl_search.extension.lwf import Lwf

EXTENSIONS: dict[str, type[Extension]] = {
    "frozen": Frozen,
    "lwf": Lwf,
}

__all__ = ["EXTENSIONS", "Extension", "Frozen", "Lwf"]
