"""Alignments by name: a variant is one file and one line here."""

from typing import TYPE_CHECKING

from mtl_search.variants.registry import Registry, import_on_use

if TYPE_CHECKING:
    from mtl_search.alignment.base import Aligning as Aligning
    from mtl_search.alignment.base import Alignment as Alignment

ALIGNMENTS: Registry["Alignment"] = Registry(
    __name__,
    {
        "none": "none:NoAlignment",
        "coral": "coral:Coral",
        "mmd": "mmd:Mmd",
        "dann": "dann:Dann",
    },
)
__getattr__ = import_on_use(__name__, {"base": ["Aligning", "Alignment"]}, ALIGNMENTS)
