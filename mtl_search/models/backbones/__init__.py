"""Backbones by name: a variant is one file and one line here."""

from typing import TYPE_CHECKING

from mtl_search.variants.registry import Registry, import_on_use

if TYPE_CHECKING:
    from mtl_search.models.backbones.base import Backbone as Backbone
    from mtl_search.models.backbones.base import output_shapes as output_shapes
    from mtl_search.models.backbones.blocks import Blocks as Blocks

BACKBONES: Registry["Backbone"] = Registry(
    __name__,
    {
        "mlp": "mlp:Mlp",
        "resnet": "resnet:ResNet",
        "python": "python_backbone:PythonBackbone",
    },
)
__getattr__ = import_on_use(__name__, {"base": ["Backbone", "output_shapes"], "blocks": ["Blocks"]}, BACKBONES)
