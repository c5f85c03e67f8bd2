"""Fusions by name: a variant is one file and one line here."""

from mtl_search.fusion.apply import fuse
from mtl_search.fusion.base import Fusion
from mtl_search.fusion.mean import Mean
from mtl_search.fusion.weighted import Weighted

FUSIONS: dict[str, type[Fusion]] = {
    "mean": Mean,
    "weighted": Weighted,
}

__all__ = ["FUSIONS", "Fusion", "Mean", "Weighted", "fuse"]
