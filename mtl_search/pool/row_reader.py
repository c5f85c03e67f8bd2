"""Rows that stay on disk, picked by Ray Data's tasks beside the worker: the next windows while this one trains.

The order of an epoch is known, so nothing is sorted or shuffled: a task picks the rows of one window from this node's
record file, wherever they lie in it. Imports no torch: the tasks' processes start with this module.
"""

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from mtl_search.data.gather_rows import gather_rows

_AHEAD = 2
"""Windows that are picked at a time."""
_HELD = 6
"""Windows that may wait in the object store."""


def read_rows_ahead(path: str, size: int, rows: np.ndarray, window: int) -> Iterator[np.ndarray]:
    """Windows of records, picked ahead by tasks on this node (a ``data.streaming.Windows``).

    Args:
        path: Record file.
        size: Bytes of a record.
        rows: Row numbers (n,) int64, in the order in which they are wanted.
        window: Rows of a window.

    Yields:
        The records as bytes (at most ``window``, size).
    """
    import ray.data  # only where rows stream: it takes a second

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = context.execution_options.resource_limits.copy(
        object_store_memory=float(max(_HELD * window * size, 64 << 20))
    )
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    wanted = [{"rows": rows[start : start + window].tobytes()} for start in range(0, len(rows), window)]
    if not wanted:
        return
    # One block for each window, made here: `from_arrow` would ask for its blocks' sizes with tasks that want a CPU.
    windows = ray.data.from_items(wanted, override_num_blocks=len(wanted)).map_batches(
        partial(_gather_window, path=path, size=size),
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.TaskPoolStrategy(size=min(_AHEAD, len(wanted))),
        num_cpus=0,  # the workers have all there are, and a task that waits for one would wait for ever
        label_selector={"ray.io/node-id": ray.get_runtime_context().get_node_id()},
    )
    for table in windows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        yield _bytes(table, size)


def _gather_window(windows: pa.Table, path: str, size: int) -> pa.Table:
    numbers = np.concatenate([np.frombuffer(rows.as_py(), np.int64) for rows in windows["rows"]])
    found = gather_rows(path, size, numbers)
    records = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(found), [None, pa.py_buffer(found)])
    return pa.table({"record": records})


def _bytes(table: pa.Table, size: int) -> np.ndarray:
    chunks: list[Any] = [
        np.frombuffer(part.buffers()[1], np.uint8, len(part) * size, part.offset * size)
        for part in table["record"].chunks
    ]
    return (chunks[0] if len(chunks) == 1 else np.concatenate(chunks)).reshape(-1, size)
