"""Sharings by name: a variant is one file and one line here."""

from mtl_search.models.sharing.adapters import Adapters
from mtl_search.models.sharing.adversarial import Adversarial
from mtl_search.models.sharing.base import Sharing
from mtl_search.models.sharing.coupling import Couple, Coupling, Layout
from mtl_search.models.sharing.cross_stitch import CrossStitch
from mtl_search.models.sharing.experts import Experts
from mtl_search.models.sharing.hard import Hard
from mtl_search.models.sharing.none import NoSharing
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.models.sharing.routing import Routing
from mtl_search.models.sharing.soft import Soft
from mtl_search.models.sharing.tree import Tree

SHARINGS: dict[str, type[Sharing]] = {
    "hard": Hard,
    "none": NoSharing,
    "tree": Tree,
    "soft": Soft,
    "experts": Experts,
    "adapters": Adapters,
    "cross_stitch": CrossStitch,
    "adversarial": Adversarial,
}

__all__ = [
    "SHARINGS",
    "Adapters",
    "Adversarial",
    "Couple",
    "Coupling",
    "CrossStitch",
    "Experts",
    "Hard",
    "Layout",
    "NoSharing",
    "Routing",
    "Sharing",
    "SharingPlan",
    "Soft",
    "Tree",
]
