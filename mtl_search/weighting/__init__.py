"""Weightings by name: a variant is one file and one line here."""

from mtl_search.weighting.base import Weighting
from mtl_search.weighting.fixed import Fixed

WEIGHTINGS: dict[str, type[Weighting]] = {
    "fixed": Fixed,
}

__all__ = ["WEIGHTINGS", "Fixed", "Weighting"]
