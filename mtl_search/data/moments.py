"""Mean and spread of features, channel by channel, from rows at once or in chunks: the same to the bit either way.

What a `Preparation` fits on the training rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

_CHUNK = 2**20  # elements held as float64 at a time


def channels_last(shape: tuple[int, ...]) -> bool:
    """Whether rows of a shape (H, W, C) are images whose channels come last."""
    return len(shape) == 3 and shape[2] <= 4 < shape[0]


def feature_shape_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a row's features, channels first."""
    if len(shape) == 2:
        return (1, *shape)
    return (shape[2], shape[0], shape[1]) if channels_last(shape) else shape


def _blocks(parts: Sequence[Iterable[np.ndarray]], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """All rows in blocks as float64 (rows, channels, values per channel); of the same rows however they come."""
    size = max(1, _CHUNK // max(1, int(np.prod(shape))))
    for part in parts:
        for rows in _resized(part, size):
            block = rows.astype(np.float64)
            block = np.moveaxis(block, -1, 1) if channels_last(shape) else block
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


def moments_of(
    parts: Sequence[Iterable[np.ndarray]], shape: tuple[int, ...]
) -> tuple[list[float], list[float], list[bool]]:
    """Per channel: mean, population standard deviation, NaN left out, and whether there is one.

    A channel without spread has the scale 1.
    """
    count = total = np.zeros(feature_shape_of(shape)[0])
    gaps = count > 0
    if not len(count):
        return [], [], []
    for block in _blocks(parts, shape):
        present = ~np.isnan(block)
        gaps = gaps | ~present.all(axis=(0, 2))
        count, total = count + present.sum(axis=(0, 2)), total + np.nansum(block, axis=(0, 2))
    count = np.maximum(count, 1)
    means = total / count
    squares = (np.nansum((block - means[:, None]) ** 2, axis=(0, 2)) for block in _blocks(parts, shape))
    scales = np.sqrt(sum(squares, np.zeros(len(count))) / count).astype(np.float32)
    # Less spread than float32 resolves at that mean is rounding, not information.
    flat = (scales <= np.abs(means) * np.finfo(np.float32).eps) | (scales < np.finfo(np.float32).tiny)
    return means.astype(np.float32).tolist(), np.where(flat, np.float32(1), scales).tolist(), gaps.tolist()
