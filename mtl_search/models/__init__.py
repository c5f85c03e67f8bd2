"""Networks: backbones as blocks, sharing plans, heads, the multi-task model and its deployed form."""

from typing import TYPE_CHECKING

from mtl_search.variants.registry import import_on_use

if TYPE_CHECKING:
    from mtl_search.models.backbones import BACKBONES as BACKBONES
    from mtl_search.models.backbones import Backbone as Backbone
    from mtl_search.models.deployed import DeployedModel as DeployedModel
    from mtl_search.models.multitask import Head as Head
    from mtl_search.models.multitask import MultiTaskModel as MultiTaskModel
    from mtl_search.models.multitask import head_key as head_key
    from mtl_search.models.sharing import SHARINGS as SHARINGS
    from mtl_search.models.sharing import Sharing as Sharing
    from mtl_search.models.sharing import SharingPlan as SharingPlan

__getattr__ = import_on_use(
    __name__,
    {
        "backbones": ["BACKBONES", "Backbone"],
        "deployed": ["DeployedModel"],
        "heads": ["Head"],
        "multitask": ["MultiTaskModel", "head_key"],
        "sharing": ["SHARINGS", "Sharing", "SharingPlan"],
    },
)
