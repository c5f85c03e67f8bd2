"""Sharings by name: a variant is one file and one line here."""

from typing import TYPE_CHECKING

from mtl_search.variants.registry import Registry, import_on_use

if TYPE_CHECKING:
    from mtl_search.models.sharing.base import Sharing as Sharing
    from mtl_search.models.sharing.plan import SharingPlan as SharingPlan
    from mtl_search.models.sharing.sharing_module import ModelLayout as ModelLayout
    from mtl_search.models.sharing.sharing_module import SharingFactory as SharingFactory
    from mtl_search.models.sharing.sharing_module import SharingModule as SharingModule
    from mtl_search.models.sharing.tree_sharing import TreeSharing as TreeSharing

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
        "sharing_module": ["SharingFactory", "SharingModule", "ModelLayout"],
        "plan": ["SharingPlan"],
        "tree_sharing": ["TreeSharing"],
    },
    SHARINGS,
)
