"""Hashed text as the few numbers that are not zero: in memory, on a device, and dense for the rows of a batch alone.

Stands beside the dense arrays of a split, from the encoding to the training step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Rows of mostly zeros, as numpy arrays (compressed sparse rows).

    Attributes:
        starts: Where each row's entries begin, and where the last ones end; int64 (n + 1,).
        columns: Column of each entry, none twice in a row; int32 (entries,).
        values: Each entry; float32 (entries,).
        width: Number of columns.
    """

    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    width: int

    @classmethod
    def of(cls, matrix: Any) -> SparseRows:
        """The rows of a scipy CSR matrix."""
        return cls(
            matrix.indptr.astype(np.int64),
            matrix.indices.astype(np.int32),
            matrix.data.astype(np.float32),
            matrix.shape[1],
        )


class SparseFeatures:
    """Features (n, d + width) on a device, of which the last ``width`` are kept sparse.

    Stands in for a dense tensor where rows are taken from it: it has the operations of `Tensor` for that, under the
    same names, and each gives a dense tensor.

    Args:
        dense: The first features (n, d), float32.
        sparse: The others.
        padded: Read as many entries for every picked row as the longest row has, since to ask how many there are would
            make the host wait for the device; None for where there is such a wait, that is not on a CPU.
    """

    def __init__(self, dense: Tensor, sparse: SparseRows, padded: bool | None = None) -> None:
        device = dense.device
        self._padded = device.type != "cpu" if padded is None else padded
        self._dense, self._width = dense, sparse.width
        counts = np.diff(sparse.starts)
        self._longest = int(counts.max(initial=0))
        self._bounds: list[int] = sparse.starts.tolist()  # here too, so that a slice never waits for the device
        self._starts = torch.from_numpy(sparse.starts[:-1].copy()).to(device)
        self._counts = torch.from_numpy(counts).to(device)
        # One entry of nothing at the end: there is always one to read.
        self._columns = torch.from_numpy(np.append(sparse.columns, np.int32(0))).to(device)
        self._values = torch.from_numpy(np.append(sparse.values, np.float32(0))).to(device)

    def __len__(self) -> int:
        """Number of rows n."""
        return len(self._dense)

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Rows by number, dense: (len(rows), d + width).

        Args:
            dim: 0.
            rows: Row numbers (m,) int64, on the device.
        """
        assert dim == 0, "rows alone are picked"
        dense, starts, counts = (part.index_select(0, rows) for part in (self._dense, self._starts, self._counts))
        if self._padded:
            steps = torch.arange(self._longest, device=rows.device)
            owners = torch.arange(len(rows), device=rows.device)[:, None]
            entries = (starts[:, None] + steps).clamp_(max=len(self._columns) - 1)
            values = self._values[entries] * (steps < counts[:, None])
        else:
            owners = torch.repeat_interleave(counts)
            steps = torch.arange(len(owners), device=rows.device)
            entries = steps + (starts + counts - counts.cumsum(0)).index_select(0, owners)
            values = self._values[entries]
        return self._filled(dense, owners, self._columns[entries], values)

    def __getitem__(self, rows: slice) -> Tensor:
        """Rows from start to stop, dense: (stop - start, d + width)."""
        start, stop, _ = rows.indices(len(self))
        dense, counts = self._dense[start:stop], self._counts[start:stop]
        own = slice(self._bounds[start], self._bounds[max(start, stop)])
        owners = torch.repeat_interleave(counts, output_size=own.stop - own.start)
        return self._filled(dense, owners, self._columns[own], self._values[own])

    def _filled(self, dense: Tensor, owners: Tensor, columns: Tensor, values: Tensor) -> Tensor:
        """Dense rows, each with the entries that it owns."""
        rows, before = dense.shape
        full = dense.new_zeros(rows, before + self._width)
        full[:, :before] = dense
        places = columns + (owners * full.shape[1] + before)
        full.view(-1).scatter_add_(0, places.flatten(), values.flatten())  # an entry of nothing may fall on any place
        return full
