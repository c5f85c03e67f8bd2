"""Networks: backbones as blocks, sharing plans, heads, the multi-task model and its deployed form."""

from mtl_search.models.backbones import BACKBONES, Backbone
from mtl_search.models.deployed import DeployedModel
from mtl_search.models.heads import Head, predict
from mtl_search.models.multitask import MultiTaskModel, head_key
from mtl_search.models.sharing import SHARINGS, Sharing, SharingPlan

__all__ = [
    "BACKBONES",
    "SHARINGS",
    "Backbone",
    "DeployedModel",
    "Head",
    "MultiTaskModel",
    "Sharing",
    "SharingPlan",
    "head_key",
    "predict",
]
