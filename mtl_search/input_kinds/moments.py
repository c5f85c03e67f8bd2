"""Mean and spread of features, channel by channel, from rows at once or in chunks: the same to the bit either way.

What a `Preparation` fits on the training rows. It also says whether float32 can hold the rows before the mean is taken
off: a time stamp of 1.7e12 ms is rounded to 131,072 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

_CHUNK = 2**20  # elements held as float64 at a time
_MOST_LOST = 1e-3
"""Largest rounding error of float32, in standard deviations of the channel, that features may have."""
_LEVEL = 64 * np.finfo(np.float64).eps
"""A standard deviation of at most this part of the mean is rounding of float64: the channel is constant."""


class Moments(NamedTuple):
    """What the training rows say of each channel.

    Attributes:
        means: Mean of each channel, (channels,). float32, or float64 where the rows must be standardised in float64.
        scales: Population standard deviation, of the same dtype, or 1 for a channel without spread.
        gaps: Whether a value is missing.
    """

    means: np.ndarray
    scales: np.ndarray
    gaps: list[bool]


def channels_last(shape: tuple[int, ...]) -> bool:
    """Whether rows of a shape (H, W, C) are images whose channels come last."""
    return len(shape) == 3 and shape[2] <= 4 < shape[0]


def feature_shape_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a row's features, channels first."""
    if len(shape) == 2:
        return (1, *shape)
    return (shape[2], shape[0], shape[1]) if channels_last(shape) else shape


def _blocks(parts: Sequence[Iterable[np.ndarray]], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """All rows in blocks (rows, channels, values per channel), of the dtype that they have."""
    size = max(1, _CHUNK // max(1, int(np.prod(shape))))
    for part in parts:
        for rows in _resized(part, size):
            block = np.moveaxis(rows, -1, 1) if channels_last(shape) else rows
            yield block.reshape(len(block), feature_shape_of(shape)[0], int(np.prod(feature_shape_of(shape)[1:])))


def _resized(chunks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The rows of chunks of any length, so many at a time; the last may be fewer."""
    held: list[np.ndarray] = []
    for chunk in chunks:
        start = 0
        while start < len(chunk):
            piece = chunk[start : start + size - sum(map(len, held))]
            held, start = [*held, piece], start + len(piece)
            if sum(map(len, held)) == size:
                yield held[0] if len(held) == 1 else np.concatenate(held)
                held = []
    if held:
        yield np.concatenate(held)


def moments_of(parts: Sequence[Iterable[np.ndarray]], shape: tuple[int, ...], *, rounded: bool = False) -> Moments:
    """Mean and population standard deviation of each channel; NaN counts as missing.

    Args:
        parts: Rows (n, *shape) of each data set, in chunks.
        shape: Shape of one row.
        rounded: Whether the rows become float32 before they are standardised, so that their moments are those of the
            rounded values. Where rounding would lose more than a thousandth of a standard deviation, the moments are
            those of the values themselves, in float64.
    """
    channels = feature_shape_of(shape)[0]
    if not channels:
        return Moments(np.empty(0, np.float32), np.empty(0, np.float32), [])
    means, spreads, gaps, lost = _measured(parts, shape, rounded)
    if (lost > _MOST_LOST * spreads).any():
        exact, apart, _, _ = _measured(parts, shape, rounded=False)
        varies = apart > np.abs(exact) * _LEVEL
        if (varies & (lost > _MOST_LOST * apart)).any():
            return Moments(exact, np.where(varies, apart, 1.0), gaps.tolist())
    scales = spreads.astype(np.float32)
    # Less spread than float32 resolves at that mean is rounding, not information.
    flat = (scales <= np.abs(means) * np.finfo(np.float32).eps) | (scales < np.finfo(np.float32).tiny)
    return Moments(means.astype(np.float32), np.where(flat, np.float32(1), scales), gaps.tolist())


def _measured(
    parts: Sequence[Iterable[np.ndarray]], shape: tuple[int, ...], rounded: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per channel: mean, standard deviation, whether a value is missing, and the largest rounding error of float32."""

    def taken(block: np.ndarray) -> np.ndarray:
        return block.astype(np.float32 if rounded else np.float64).astype(np.float64)

    count = total = lost = np.zeros(feature_shape_of(shape)[0])
    gaps = count > 0
    for block in _blocks(parts, shape):
        values = taken(block)
        present = ~np.isnan(values)
        gaps = gaps | ~present.all(axis=(0, 2))
        count, total = count + present.sum(axis=(0, 2)), total + np.nansum(values, axis=(0, 2))
        if not np.can_cast(block.dtype, np.float32):
            error = np.abs(block - block.astype(np.float32).astype(np.float64))
            lost = np.maximum(lost, np.where(present, error, 0.0).max(axis=(0, 2), initial=0.0))
    count = np.maximum(count, 1)
    means = total / count
    squares = (np.nansum((taken(block) - means[:, None]) ** 2, axis=(0, 2)) for block in _blocks(parts, shape))
    return means, np.sqrt(sum(squares, np.zeros(len(count))) / count), gaps, lost
