"""Inputs: named tensors of rows, which flow from a split to a model's first block; and what rows are taken from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mtl_search.data.sparse import SparseFeatures


@dataclass(frozen=True, eq=False)
class Inputs:
    """Prepared inputs of some rows.

    Attributes:
        tensors: Name to tensor (n, ...), one or more, all with the same n.
    """

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        """Number of rows n."""
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: slice) -> Inputs:
        """Rows from start to stop, as views."""
        return Inputs({name: tensor[rows] for name, tensor in self.tensors.items()})

    def select(self, rows: Tensor) -> Inputs:
        """Rows by number.

        Args:
            rows: Row numbers (m,) int64, on the device of the tensors.
        """
        return Inputs({name: tensor.index_select(0, rows) for name, tensor in self.tensors.items()})

    @classmethod
    def cat(cls, parts: Sequence[Inputs]) -> Inputs:
        """The rows of several, one after the other; of one alone these very tensors."""
        if len(parts) == 1:
            return parts[0]
        return cls({name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors})

    def to(self, device: torch.device | str) -> Inputs:
        """The same on a device."""
        return Inputs({name: tensor.to(device) for name, tensor in self.tensors.items()})

    @property
    def single(self) -> Tensor:
        """The one tensor.

        Raises:
            ValueError: There are several.
        """
        if len(self.tensors) != 1:
            raise ValueError(f"must be one input, got {', '.join(self.tensors)}")
        return next(iter(self.tensors.values()))


class InputSource(Protocol):
    """Where the inputs of a data set's rows are taken from."""

    def __len__(self) -> int:
        """Number of rows n."""

    def __getitem__(self, rows: slice, /) -> Inputs:
        """Rows from start to stop, on the training device."""

    def select(self, rows: Tensor, /) -> Inputs:
        """Rows by number (m,) int64, on the training device."""


@dataclass(frozen=True, eq=False)
class HeldInputs:
    """Inputs of all rows of a data set in memory, some of them sparse until rows are taken.

    Attributes:
        features: Name to features (n, ...).
    """

    features: Mapping[str, Tensor | SparseFeatures]

    def __len__(self) -> int:
        """Number of rows n."""
        return len(next(iter(self.features.values())))

    def __getitem__(self, rows: slice) -> Inputs:
        """Rows from start to stop."""
        return Inputs({name: held[rows] for name, held in self.features.items()})

    def select(self, rows: Tensor) -> Inputs:
        """Rows by number."""
        return Inputs({name: held.index_select(0, rows) for name, held in self.features.items()})
