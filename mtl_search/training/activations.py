"""Activations: what frozen blocks give for the rows of a split, kept in memory by budget and least recent use.

``prefix`` computes and asks for them. The store is part of a worker's ``Workspace``, so it has one workload's data and
backbone; within that, keys are made of content. It outlives stages: a later trial finds what an earlier one left.
"""

import logging
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from mtl_search.config.study_config import ActivationsConfig

_MIB = 1 << 20
_log = logging.getLogger(__name__)


class RowsElsewhere:
    """Rows that are kept elsewhere than on the training device, with a tensor's operations for taking some of them."""

    def __init__(self, rows: Tensor, device: torch.device) -> None:
        self._rows, self._device = rows, device

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Rows by number, on the training device."""
        return self._rows.index_select(dim, rows.to(self._rows.device)).to(self._device)

    def __getitem__(self, rows: slice) -> Tensor:
        """Rows from start to stop, on the training device."""
        return self._rows[rows].to(self._device)


Kept = Tensor | RowsElsewhere
"""What blocks gave for the rows of a data set, wherever it is kept."""


@dataclass
class _Entry:
    tensors: list[Tensor]
    tier: int
    size: int


class Activations:
    """Tensors by key in tiers: the device, then the host's memory, then disk (on a CPU the first two are one).

    A new entry goes into the fastest tier that can take it. What was used least recently moves down for it, and from
    the last tier out; what is in use stays.

    Args:
        budget: How much each tier may hold.
        device: Where training happens.

    Attributes:
        has_room: Whether there is any budget.
        made: How often room was made for a new entry.
        found: How often an entry was asked for and there.
    """

    def __init__(self, budget: ActivationsConfig, device: torch.device) -> None:
        host = torch.device("cpu")
        self._places: list[torch.device | None] = [host, None] if device.type == "cpu" else [device, host, None]
        sizes = [budget.device_mib, budget.host_mib, budget.disk_mib]
        self._budgets = [size * _MIB for size in sizes[-len(self._places) :]]
        self.has_room = any(self._budgets)
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._in_use: set[str] = set()
        self._told: set[str] = set()
        self.made, self.found = 0, 0

    def get(self, key: str) -> list[Tensor] | None:
        """The tensors of an entry, which is in use from now on; None where there is none."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._use(key)
        self.found += 1
        return entry.tensors

    def make(self, key: str, shapes: Sequence[Sequence[int]], dtype: torch.dtype) -> list[Tensor] | None:
        """Room for a new entry, which is in use from now on.

        Args:
            key: Not there yet.
            shapes: Of its tensors.
            dtype: Of all of them.

        Returns:
            Tensors to be filled; None where no tier has room.
        """
        size = sum(map(prod, shapes)) * dtype.itemsize
        for tier in range(len(self._places)):
            if (tensors := self._place(tier, shapes, dtype, size)) is not None:
                self._entries[key] = _Entry(tensors, tier, size)
                self._use(key)
                self.made += 1
                return tensors
        return None

    def drop(self, key: str) -> None:
        """Remove an entry."""
        del self._entries[key]
        self._in_use.discard(key)

    def release(self) -> None:
        """Nothing is in use any more."""
        self._in_use.clear()

    def log_usage(self, what: str) -> None:
        """Say something in the log, once in this worker's life."""
        if what not in self._told:
            self._told.add(what)
            _log.warning("%s", what)

    def held(self) -> list[int]:
        """Bytes in each tier, the fastest first."""
        tiers = range(len(self._places))
        return [sum(entry.size for entry in self._entries.values() if entry.tier == tier) for tier in tiers]

    def _use(self, key: str) -> None:
        self._in_use.add(key)
        self._entries.move_to_end(key)

    def _place(self, tier: int, shapes: Sequence[Sequence[int]], dtype: torch.dtype, size: int) -> list[Tensor] | None:
        """Empty tensors in a tier, others moved down where that makes the room; None where it does not."""
        idle = [key for key, entry in self._entries.items() if entry.tier == tier and key not in self._in_use]
        lacking = size + self.held()[tier] - self._budgets[tier]
        if lacking > sum(self._entries[key].size for key in idle):
            return None
        for key in idle:
            if lacking <= 0:
                break
            lacking -= self._entries[key].size
            self._move_down(key)
        place = self._places[tier]
        if place is None:
            return _on_disk(shapes, dtype, size)
        return [torch.empty(tuple(shape), dtype=dtype, device=place) for shape in shapes]

    def _move_down(self, key: str) -> None:
        """Move an entry to the next tier that takes it, or out."""
        entry = self._entries[key]
        shapes = [tensor.shape for tensor in entry.tensors]
        for tier in range(entry.tier + 1, len(self._places)):
            lower = self._place(tier, shapes, entry.tensors[0].dtype, entry.size)
            if lower is not None:
                for target, source in zip(lower, entry.tensors, strict=True):
                    target.copy_(source)
                entry.tensors, entry.tier = lower, tier
                return
        self.drop(key)


def _on_disk(shapes: Sequence[Sequence[int]], dtype: torch.dtype, size: int) -> list[Tensor] | None:
    """Tensors in a file of the temporary folder; None where the disk has no room.

    The file has no name once it is mapped: the system takes it back when the tensors go, or the process does.
    """
    folder = Path(tempfile.gettempdir())
    if not size or 2 * size > shutil.disk_usage(folder).free:
        return None
    handle, name = tempfile.mkstemp(prefix="mtl_search_activations_", dir=folder)
    try:
        os.posix_fallocate(handle, 0, size)  # reserved now: a write to a full disk later would kill the process
        whole = torch.from_file(name, shared=True, size=size // dtype.itemsize, dtype=dtype)
    except OSError:
        return None
    finally:
        os.close(handle)
        Path(name).unlink()
    parts = torch.split(whole, [prod(shape) for shape in shapes])
    return [part.view(tuple(shape)) for part, shape in zip(parts, shapes, strict=True)]
