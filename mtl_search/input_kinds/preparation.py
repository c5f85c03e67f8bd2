"""Preparation: encoded columns to features, fitted on training rows.

It is applied once when a split goes to its device, and travels inside the exported model, so that a served row is
prepared as a training row was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from . import INPUT_KINDS
from .base import StatedInputs, TrainingRows
from .encoding import parts_of, spec_of


class Preparation(nn.Module):
    """Turns what ``encode(columns, preparation.spec)`` returns into inputs of a model: named tensors, float32.

    The features of a table are those of its kinds, side by side, in one tensor (n, *feature_shape).

    Args:
        plain: The preparation as plain JSON, as ``to_dict`` gives it.

    Attributes:
        feature_shape: Shape of one row's features: (d,) or (channels, height, width).
    """

    feature_shape: tuple[int, ...]

    def __init__(self, plain: Mapping[str, Any]) -> None:
        super().__init__()
        self._plain = dict(plain)
        self.kinds = nn.ModuleList(kind.features(part) for kind, part in parts_of(plain))
        shapes: list[Any] = [module.feature_shape for module in self.kinds]
        self.feature_shape = shapes[0] if len(shapes) == 1 else (sum(width for (width,) in shapes),)

    @classmethod
    def fit(cls, kinds: Mapping[str, str], rows: TrainingRows, stated: StatedInputs) -> Preparation:
        """Fits every kind on training rows.

        Args:
            kinds: Input column to the name of its kind.
            rows: Training rows of every data set.
            stated: What the sources together say.
        """
        names = {name: [column for column, own in kinds.items() if own == name] for name in INPUT_KINDS}
        alone = [name for name in INPUT_KINDS if names[name] and INPUT_KINDS[name].alone]
        plain: dict[str, Any] = {"kind": "table"}
        for name, kind in INPUT_KINDS.items():
            kept = name in alone if alone else names[name] or kind.part_of(plain) is not None
            if kept:
                plain |= kind.plain(kind.fit(names[name], rows, stated))
        return cls(plain)

    @property
    def spec(self) -> dict[str, Any]:
        """What ``encode`` needs to know, as plain JSON."""
        return spec_of(self._plain)

    def to_dict(self) -> dict[str, Any]:
        """The preparation as plain JSON, exact; the constructor takes it."""
        return dict(self._plain)

    def forward(self, *encoded: Tensor) -> dict[str, Tensor]:
        """Name to features (n, *feature_shape) of the arrays of the kinds, (n, ...) each.

        Without the array of a sparse kind, the features before those of that kind.
        """
        parts = [module(array) for module, array in zip(self.kinds, encoded, strict=False)]
        return {self._plain["kind"]: parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)}
