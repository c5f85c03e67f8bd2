"""Encoded columns to features: standardised numbers, one-hot categories, hashed text, channel-first images.

A preparation is fitted on training rows, applied once when a split goes to its device, and travels inside the exported
model, so that a served row is prepared as a training row was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mtl_search.data.encoding import encode, texts_of
from mtl_search.data.moments import channels_last, feature_shape_of, moments_of
from mtl_search.data.sources.parquet_rows import ChunkedRows


class Preparation(nn.Module, ABC):
    """Turns what `encode(columns, preparation.spec)` returns into features (n, *feature_shape), float32.

    Args:
        means: Mean of each channel. As an array of float64 it says that rows are encoded and standardised in float64,
            because float32 would round away what tells them apart; otherwise all is float32.
        scales: Standard deviation of each channel.
        shape: Shape of both, so that they fit the rows.

    Attributes:
        feature_shape: Shape of one row's features: (d,) or (channels, height, width).
        dtype: What rows are standardised in, "float32" or "float64".
    """

    feature_shape: tuple[int, ...]
    means: Tensor
    scales: Tensor

    def __init__(self, means: npt.ArrayLike, scales: npt.ArrayLike, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.dtype = "float64" if isinstance(means, np.ndarray) and means.dtype == np.float64 else "float32"
        self.register_buffer("means", torch.tensor(np.asarray(means, self.dtype)).reshape(shape))
        self.register_buffer("scales", torch.tensor(np.asarray(scales, self.dtype)).reshape(shape))

    @property
    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """What `encode` needs to know, as plain JSON."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The preparation as plain JSON, exact; `preparation_from_dict` reads it back."""


class TablePreparation(Preparation):
    """Rows of numbers, categories and text.

    Numbers are standardised, a missing one becomes the training mean with an indicator beside it. A category becomes a
    one-hot vector, which is all zeros for a category that training never saw. Text comes hashed, each row of length 1,
    and stays as it is: nothing of it is fitted.
    """

    def __init__(
        self,
        numeric: Sequence[str],
        categorical: Mapping[str, Sequence[str]],
        missing: str,
        imputed: Sequence[str],
        means: npt.ArrayLike,
        scales: npt.ArrayLike,
        text: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(means, scales, (len(numeric),))
        self._text = None if text is None else dict(text)
        self._numeric, self._missing, self._imputed = list(numeric), missing, list(imputed)
        self._categorical = {name: list(categories) for name, categories in categorical.items()}
        widths = [len(categories) for categories in self._categorical.values()]
        # One feature per category: the code's column it looks at, and the code that makes it 1.
        self.register_buffer("_sources", torch.tensor([c for c, w in enumerate(widths) for _ in range(w)]).long())
        self.register_buffer("_codes", torch.tensor([code for w in widths for code in range(1, w + 1)]).long())
        self.register_buffer("_flagged", torch.tensor([self._numeric.index(name) for name in imputed]).long())
        hashes = 0 if text is None else text["features"] * len(text["columns"])
        self.feature_shape = (len(numeric) + len(self._imputed) + sum(widths) + hashes,)

    @classmethod
    def fit(
        cls,
        rows: Mapping[str, np.ndarray] | ChunkedRows,
        numeric: Sequence[str],
        categorical: Sequence[str],
        missing: str = "error",
        text: Mapping[str, Any] | None = None,
    ) -> TablePreparation:
        """Fits on raw training rows.

        Args:
            rows: Column name to values (n,): the training rows of all data sets, at once or in chunks.
            numeric: Columns of numbers.
            categorical: Columns of categories.
            missing: "error" refuses a missing number, "impute" puts the mean of the training rows there.
            text: Columns of text and how they are hashed, as in `spec`; None if there are none.
        """
        chunked = rows if isinstance(rows, ChunkedRows) else ChunkedRows([rows])
        vocabularies: dict[str, set[str]] = {name: set() for name in categorical}
        for chunk in chunked.chunks(categorical) if categorical else ():
            for name in categorical:
                vocabularies[name].update(texts_of(chunk[name]))
        numbers: Iterable[np.ndarray] = [np.empty((0, 0))]
        if numeric:
            spec = {"kind": "table", "numeric": list(numeric), "categorical": {}, "missing": missing}
            spec["dtype"] = "float64"
            numbers = _Numbers(chunked, spec) if isinstance(rows, ChunkedRows) else encode(rows, spec)[:1]
        means, scales, gaps = moments_of([numbers], (len(numeric),), rounded=True)
        imputed = [name for name, gap in zip(numeric, gaps, strict=True) if gap]
        categories = {name: sorted(found) for name, found in vocabularies.items()}
        return cls(numeric, categories, missing, imputed, means, scales, text)

    @property
    def spec(self) -> dict[str, Any]:
        names = {"numeric": list(self._numeric), "categorical": {n: list(c) for n, c in self._categorical.items()}}
        text = {} if self._text is None else {"text": dict(self._text)}
        dtype = {} if self.dtype == "float32" else {"dtype": self.dtype}
        return {"kind": "table", **names, "missing": self._missing, **text, **dtype}

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.spec,
            "imputed": list(self._imputed),
            "means": self.means.tolist(),
            "scales": self.scales.tolist(),
        }

    def forward(self, numbers: Tensor, codes: Tensor, *text: Tensor) -> Tensor:
        """Features (n, d + imputed + categories + hashes) of numbers (n, d), codes (n, c) int64 and text (n, hashes).

        The numbers have the preparation's dtype.

        Without the text that it was made for, the features before those of the text.
        """
        gaps = torch.isnan(numbers)
        standard = (torch.where(gaps, self.means, numbers) - self.means) / self.scales
        one_hot = codes.index_select(1, self.get_buffer("_sources")) == self.get_buffer("_codes")
        flags = gaps.index_select(1, self.get_buffer("_flagged"))
        return torch.cat([standard.float(), flags.float(), one_hot.float(), *text], dim=1)


class ArrayPreparation(Preparation):
    """Rows that are arrays: vectors, standardised feature by feature, or images, channel by channel.

    A sample (H, W) becomes (1, H, W); (H, W, C) with C <= 4 and H > 4 becomes (C, H, W); others stay as they are.
    """

    def __init__(
        self, column: str, shape: Sequence[int], dtype: str, means: npt.ArrayLike, scales: npt.ArrayLike
    ) -> None:
        self._column, self._shape, self._given = column, tuple(shape), dtype
        self._last = channels_last(self._shape)
        feature_shape = feature_shape_of(self._shape)
        super().__init__(means, scales, (feature_shape[0], *(1 for _ in feature_shape[1:])))
        self.feature_shape = feature_shape

    @classmethod
    def fit(cls, column: str, parts: Sequence[np.ndarray | Iterable[np.ndarray]]) -> ArrayPreparation:
        """Fits on the training rows (n, *shape) of every data set, which share one shape and hold finite numbers.

        A data set's rows come at once or in chunks.
        """
        chunked = [[part] if isinstance(part, np.ndarray) else part for part in parts]
        shape = next(iter(chunked[0])).shape[1:]
        small = all(isinstance(part, np.ndarray) and part.dtype in (np.uint8, np.bool_) for part in parts)
        means, scales, _ = moments_of(chunked, shape)
        return cls(column, shape, "uint8" if small else str(means.dtype), means, scales)

    @property
    def spec(self) -> dict[str, Any]:
        return {"kind": "array", "column": self._column, "shape": list(self._shape), "dtype": self._given}

    def to_dict(self) -> dict[str, Any]:
        return {**self.spec, "means": self.means.flatten().tolist(), "scales": self.scales.flatten().tolist()}

    def forward(self, values: Tensor) -> Tensor:
        """Features (n, *feature_shape) of values (n, *shape)."""
        values = values.to(self.means.dtype)
        if len(self._shape) == 2:
            values = values.unsqueeze(1)
        elif self._last:
            values = values.movedim(-1, 1)
        return ((values - self.means) / self.scales).float()


def preparation_from_dict(plain: Mapping[str, Any]) -> Preparation:
    """The preparation that `to_dict` wrote."""
    params = {key: value for key, value in plain.items() if key != "kind"}
    if plain.get("dtype") == "float64":
        params |= {name: np.array(plain[name], np.float64) for name in ("means", "scales")}
    if plain["kind"] == "array":
        return ArrayPreparation(**params)
    return TablePreparation(**{key: value for key, value in params.items() if key != "dtype"})


@dataclass(frozen=True)
class _Numbers:
    """The numbers of rows that come in chunks, encoded; may be gone through again and again."""

    rows: ChunkedRows
    spec: Mapping[str, Any]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (encode(chunk, self.spec)[0] for chunk in self.rows.chunks(self.spec["numeric"]))
