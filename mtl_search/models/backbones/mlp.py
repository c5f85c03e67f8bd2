"""Mlp: fully connected blocks, for tables and small vectors (images are flattened)."""

from collections import OrderedDict
from math import prod

from torch import nn

from mtl_search.models.backbones.base import Backbone
from mtl_search.recipe import Count, ProperFraction, Width


class Mlp(Backbone):
    """Multi-layer perceptron: each block is Linear, LayerNorm, GELU and dropout, (n, ...) -> (n, width).

    Args:
        width: Features of every block.
        depth: Number of blocks.
        dropout: Share of features dropped after each block while training.
        norm: Whether blocks normalise (layer norm, so rows never influence each other).
    """

    def __init__(self, width: Width = 128, depth: Count = 3, dropout: ProperFraction = 0.0, norm: bool = True) -> None:
        self.width = width
        self.depth = depth
        self.dropout = dropout
        self.norm = norm

    def _blocks(self, input_shape: tuple[int, ...]) -> list[nn.Module]:
        widths = [prod(input_shape), *[self.width] * self.depth]
        return [self._block(widths[i], flatten=i == 0 and len(input_shape) > 1) for i in range(self.depth)]

    def _block(self, inputs: int, flatten: bool) -> nn.Module:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if flatten:
            layers["flatten"] = nn.Flatten()
        layers["linear"] = nn.Linear(inputs, self.width)
        if self.norm:
            layers["norm"] = nn.LayerNorm(self.width)
        layers["activation"] = nn.GELU()
        if self.dropout:
            layers["dropout"] = nn.Dropout(self.dropout)
        return nn.Sequential(layers)
