"""Sharings by name: a variant is one file and one line here."""

from typing import TYPE_CHECKING

from mtl_search.registry import Registry, import_on_use

if TYPE_CHECKING:
    from mtl_search.models.sharing.base import Sharing as Sharing
    from mtl_search.models.sharing.coupling import Couple as Couple
    from mtl_search.models.sharing.coupling import Coupling as Coupling
    from mtl_search.models.sharing.coupling import Layout as Layout
    from mtl_search.models.sharing.plan import SharingPlan as SharingPlan
    from mtl_search.models.sharing.routing import Routing as Routing

SHARINGS: Registry["Sharing"] = Registry(
    __name__,
    {
        "hard": "hard:Hard",
        "none": "none:NoSharing",
        "tree": "tree:Tree",
        "soft": "soft:Soft",
        "experts": "experts:Experts",
        "adapters": "adapters:Adapters",
        "cross_stitch": "cross_stitch:CrossStitch",
        "adversarial": "adversarial:Adversarial",
    },
)
__getattr__ = import_on_use(
    __name__,
    {
        "base": ["Sharing"],
        "coupling": ["Couple", "Coupling", "Layout"],
        "plan": ["SharingPlan"],
        "routing": ["Routing"],
    },
    SHARINGS,
)
