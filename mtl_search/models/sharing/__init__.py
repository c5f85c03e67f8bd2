"""Sharings by name: a variant is one file and one line here."""

from mtl_search.models.sharing.base import Sharing, SharingPlan
from mtl_search.models.sharing.hard import Hard

SHARINGS: dict[str, type[Sharing]] = {
    "hard": Hard,
}

__all__ = ["SHARINGS", "Hard", "Sharing", "SharingPlan"]
