"""Backbones by name: a variant is one file and one line here."""

from mtl_search.models.backbones.base import Backbone, output_shapes
from mtl_search.models.backbones.blocks import Blocks
from mtl_search.models.backbones.mlp import Mlp
from mtl_search.models.backbones.python_backbone import PythonBackbone
from mtl_search.models.backbones.resnet import ResNet

BACKBONES: dict[str, type[Backbone]] = {
    "mlp": Mlp,
    "resnet": ResNet,
    "python": PythonBackbone,
}

__all__ = ["BACKBONES", "Backbone", "Blocks", "Mlp", "PythonBackbone", "ResNet", "output_shapes"]
