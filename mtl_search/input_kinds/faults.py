"""Faults that several kinds of input find in a column."""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import Fault


def odd_fault(place: str, where: str, odd: tuple[int, Any]) -> Fault:
    """A value that is neither a number nor text, or an array of another shape.

    Args:
        place: Key path.
        where: The column, in words.
        odd: Row and value.
    """
    row, value = odd
    kinds = "arrays of numbers of one shape" if isinstance(value, list | np.ndarray) else "numbers or text"
    return Fault(place, f"must hold {kinds} {where}, in row {row} (from 0)", value)
