"""Inputs that stay on disk: read where rows are taken, and read ahead where their order is known.

Between the record files and the training step. Batches come from whatever `Windows` picks the rows: this process, or
Ray Data's tasks beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from mtl_search.data.gather_rows import gather_rows
from mtl_search.data.inputs import Inputs
from mtl_search.data.records import RecordFile
from mtl_search.input_kinds.preparation import Preparation

WINDOW_BYTES = 16 << 20
"""Records that are picked at a time."""

Windows = Callable[[str, int, np.ndarray, int], Iterator[np.ndarray]]
"""(file, bytes per record, row numbers (n,), rows of a window) -> the records in that order, bytes (window, size)."""


def read_rows_here(path: str, size: int, rows: np.ndarray, window: int) -> Iterator[np.ndarray]:
    """Windows picked by this process, when they are asked for."""
    for start in range(0, len(rows), window):
        yield gather_rows(path, size, rows[start : start + window])


class StreamedInputs:
    """Inputs of rows on disk, prepared for the rows that are taken, with the bits that inputs in memory have.

    Args:
        file: The encoded rows.
        preparation: On the device.
        device: Where features go.
        windows: Picks the rows of a whole epoch.
    """

    def __init__(
        self,
        file: RecordFile,
        preparation: Preparation,
        device: torch.device | str,
        windows: Windows = read_rows_here,
    ) -> None:
        self._file, self._preparation, self._device, self._windows = file, preparation, device, windows

    def __len__(self) -> int:
        """Number of rows n."""
        return self._file.rows

    def select(self, rows: Tensor) -> Inputs:
        """Rows by number (m,) int64."""
        return self._prepared(self._file.pick(rows.cpu().numpy()))

    def __getitem__(self, rows: slice) -> Inputs:
        """Rows from start to stop."""
        start, stop, _ = rows.indices(len(self))
        return self._prepared(self._file.read(start, stop))

    def batches(self, rows: Tensor) -> Iterator[Inputs]:
        """The inputs of known batches, read ahead.

        Args:
            rows: Row numbers (batches, m) int64.

        Yields:
            Those of m rows for each.
        """
        count, each = rows.shape
        per_window = max(1, WINDOW_BYTES // max(1, each * self._file.bytes_per_row))
        if not each:
            yield from (self[0:0] for _ in range(count))
            return
        numbers = rows.cpu().numpy().reshape(-1)
        for records in self._windows(str(self._file.path), self._file.bytes_per_row, numbers, per_window * each):
            window = self._prepared(self._file.fields(records))
            for start in range(0, len(window), each):
                # A copy begins where memory is aligned, as the rows of a tensor do: kernels differ.
                yield Inputs({name: rows.clone() for name, rows in window[start : start + each].tensors.items()})

    @torch.no_grad()
    def _prepared(self, encoded: tuple[np.ndarray, ...]) -> Inputs:
        parts = [torch.from_numpy(values if values.flags.writeable else values.copy()) for values in encoded]
        return Inputs(self._preparation(*(part.to(self._device) for part in parts)))
