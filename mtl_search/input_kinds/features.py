"""Modules that make features of encoded arrays; what was fitted is in their buffers. Imports torch, as no kind does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .moments import channels_last, feature_shape_of


class Standardised(nn.Module):
    """Numbers (n, d) less their means, by their scales; a missing one is the mean, and may have an indicator.

    Args:
        means: Mean of each number, (d,).
        scales: Standard deviation of each, (d,).
        dtype: In which they are standardised, ``float32`` or ``float64``.
        flagged: Numbers of the columns whose gaps have an indicator.
    """

    means: Tensor
    scales: Tensor
    _flagged: Tensor

    def __init__(self, means: npt.ArrayLike, scales: npt.ArrayLike, dtype: str, flagged: Sequence[int] = ()) -> None:
        super().__init__()
        self.register_buffer("means", torch.tensor(np.asarray(means, dtype)))
        self.register_buffer("scales", torch.tensor(np.asarray(scales, dtype)))
        self.register_buffer("_flagged", torch.tensor(list(flagged)).long())
        self.feature_shape = (len(self.means) + len(self._flagged),)

    def forward(self, numbers: Tensor) -> Tensor:
        """Features (n, d + flagged)."""
        gaps = torch.isnan(numbers)
        standard = (torch.where(gaps, self.means, numbers) - self.means) / self.scales
        return torch.cat([standard.float(), gaps.index_select(1, self._flagged).float()], dim=1)


class OneHot(nn.Module):
    """Codes (n, c) int64 as one-hot vectors; code 0 is all zeros.

    Args:
        widths: Number of categories of each column, (c,).
    """

    _sources: Tensor
    _codes: Tensor

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        # One feature for each category: the column of codes that it looks at, and the code that makes it 1.
        self.register_buffer("_sources", torch.tensor([c for c, w in enumerate(widths) for _ in range(w)]).long())
        self.register_buffer("_codes", torch.tensor([code for w in widths for code in range(1, w + 1)]).long())
        self.feature_shape = (sum(widths),)

    def forward(self, codes: Tensor) -> Tensor:
        """Features (n, categories)."""
        return (codes.index_select(1, self._sources) == self._codes).float()


class AsGiven(nn.Module):
    """Values (n, d) that are features already.

    Args:
        width: Their number d.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.feature_shape = (width,)

    def forward(self, values: Tensor) -> Tensor:
        """The values."""
        return values


class StandardisedArrays(nn.Module):
    """Arrays (n, *shape), channels first, standardised channel by channel.

    A row (H, W) becomes (1, H, W); (H, W, C) with C <= 4 and H > 4 becomes (C, H, W); others stay as they are.

    Args:
        shape: Shape of a row.
        means: Mean of each channel.
        scales: Standard deviation of each.
        dtype: In which they are standardised, ``float32`` or ``float64``.
    """

    means: Tensor
    scales: Tensor

    def __init__(self, shape: tuple[int, ...], means: npt.ArrayLike, scales: npt.ArrayLike, dtype: str) -> None:
        super().__init__()
        self.feature_shape = feature_shape_of(shape)
        self._shape, self._last = shape, channels_last(shape)
        per_channel = (self.feature_shape[0], *(1 for _ in self.feature_shape[1:]))
        self.register_buffer("means", torch.tensor(np.asarray(means, dtype)).reshape(per_channel))
        self.register_buffer("scales", torch.tensor(np.asarray(scales, dtype)).reshape(per_channel))

    def forward(self, values: Tensor) -> Tensor:
        """Features (n, *feature_shape)."""
        values = values.to(self.means.dtype)
        if len(self._shape) == 2:
            values = values.unsqueeze(1)
        elif self._last:
            values = values.movedim(-1, 1)
        return ((values - self.means) / self.scales).float()
