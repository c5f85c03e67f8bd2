"""Alignments by name: a variant is one file and one line here."""

from mtl_search.alignment.base import Aligning, Alignment
from mtl_search.alignment.coral import Coral
from mtl_search.alignment.dann import Dann
from mtl_search.alignment.mmd import Mmd
from mtl_search.alignment.none import NoAlignment

ALIGNMENTS: dict[str, type[Alignment]] = {
    "none": NoAlignment,
    "coral": Coral,
    "mmd": Mmd,
    "dann": Dann,
}

__all__ = ["ALIGNMENTS", "Aligning", "Alignment", "Coral", "Dann", "Mmd", "NoAlignment"]
