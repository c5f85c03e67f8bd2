"""What is to be known of an input column before it is used: kinds, shapes, gaps, infinities and categories.

Gathered chunk by chunk, so that the same rules hold rows in memory and rows that stay on disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .notation import first_odd
from .values import is_missing, texts_of

_MOST_TEXTS = 100_000  # more than may be categories, and few enough to be held


@dataclass
class ColumnStats:
    """Facts of one column in one given split.

    Attributes:
        dtypes: Of its chunks, in order.
        shapes: Of one row, of its chunks, in order.
        rows: Number of rows.
        nothing: Whether every value is missing.
        first: Its first value; None without rows.
        gap: First row without a number, if there is one.
        infinite: First row whose number is too large for float32, and that number, if there is one.
        odd: First row that holds neither a number nor text, such as a date, and what it holds, if there is one.
        texts: Category to how often it occurs, in the order of their first rows; of texts, and where asked for.
        places: Category to its first row.
    """

    dtypes: dict[np.dtype[Any], None] = field(default_factory=dict)
    shapes: dict[tuple[int, ...], None] = field(default_factory=dict)
    rows: int = 0
    nothing: bool = True
    first: Any = None
    gap: int | None = None
    infinite: tuple[int, float] | None = None
    odd: tuple[int, Any] | None = None
    texts: dict[str, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Its dtype, the first of them."""
        return str(next(iter(self.dtypes), ""))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of its first row."""
        return next(iter(self.shapes), ())

    @property
    def words(self) -> bool:
        """Whether it holds objects, which are texts."""
        return any(dtype.kind == "O" for dtype in self.dtypes)

    @property
    def array(self) -> bool:
        """Whether a row of it is an array."""
        return any(self.shapes)

    @property
    def strange(self) -> str:
        """A dtype that is neither number nor text; empty if there is none."""
        return next((str(dtype) for dtype in self.dtypes if dtype.kind not in "biufO"), "")

    @property
    def wrong(self) -> tuple[int, float] | None:
        """First row that holds no finite number, and what it holds, if there is one."""
        found = [] if self.gap is None else [(self.gap, float("nan"))]
        return min([*found, *([] if self.infinite is None else [self.infinite])], default=None)

    def add(self, values: np.ndarray, listed: bool, counted: bool) -> None:
        """Take in the next rows.

        Args:
            values: The chunk, (n, ...).
            listed: Whether its numbers are categories.
            counted: Whether its texts are.
        """
        self.dtypes.setdefault(values.dtype)
        self.shapes.setdefault(values.shape[1:])
        kind = values.dtype.kind
        if not len(values):
            return
        if not self.rows:
            self.first = values[0] if kind == "O" or values.ndim > 1 else values[0].item()
        if self.odd is None and (row := first_odd(values)) is not None:
            self.odd = self.rows + row, values[row]
        if self.odd is None and values.ndim == 1 and counted and (kind in "Ob" or (listed and kind in "iuf")):
            self._count(values)
        if kind in "iuf":
            self._numbers(values)
        else:
            self.nothing &= kind == "O" and all(map(is_missing, values.tolist()))
        self.rows += len(values)

    def _numbers(self, values: np.ndarray) -> None:
        with np.errstate(over="ignore"):
            finite = np.isfinite(values.astype(np.float32, copy=False)).reshape(len(values), -1)
        if finite.all():
            self.nothing = False
            return
        flat = values.reshape(finite.shape)
        missing = np.isnan(flat)
        self.nothing &= bool(missing.all())
        if self.gap is None and missing.any():
            self.gap = self.rows + int(missing.any(axis=1).argmax())
        large = ~finite & ~missing
        if self.infinite is None and large.any():
            row, column = np.argwhere(large)[0]
            self.infinite = self.rows + int(row), flat[row, column].item()

    def _count(self, values: np.ndarray) -> None:
        for row, text in enumerate(texts_of(values)):
            if text in self.texts:
                self.texts[text] += 1
            elif len(self.texts) <= _MOST_TEXTS:
                self.texts[text], self.places[text] = 1, self.rows + row
