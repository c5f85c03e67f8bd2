"""Batches: one split as features on a device, and which rows every step and every worker takes from it.

Last hop of the data path before the training step. Features are prepared once; a step only picks rows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtl_search.data.records import RecordFile
from mtl_search.data.sparse import SparseFeatures
from mtl_search.data.streaming import StreamedFeatures, Windows, read_rows_here
from mtl_search.data.study_data import Split
from mtl_search.data.task import Task
from mtl_search.errors import ConfigError, Problem
from mtl_search.input_kinds.preparation import Preparation
from mtl_search.recipe import seed_from

Features = Tensor | SparseFeatures | StreamedFeatures
"""Features of one data set's rows, as a step takes them."""
_CHUNK = 8192  # rows prepared at a time, so that one-hot columns need no second copy of the whole split


class DeviceSplit:
    """One split on a device.

    Attributes:
        features: Data set to features (n, *feature_shape), float32; a tensor, `SparseFeatures` where there is text, or
            `StreamedFeatures` where rows stay on disk.
        targets: Task to targets, as in `Split`.
        masks: Task to where there is a label, as in `Split`.
        sizes: Data set to its number of rows n.
        task_dataset: Task to its data set.
    """

    def __init__(
        self,
        split: Mapping[str, Split],
        preparation: Preparation,
        tasks: Sequence[Task],
        device: torch.device | str,
        windows: Windows = read_rows_here,
    ) -> None:
        """Prepares and moves a split.

        Args:
            split: Data set to its rows.
            preparation: Applied once, here; left where it is.
            tasks: Whose targets to move.
            device: Where to.
            windows: Picks the rows of an epoch where they stay on disk.
        """
        placed = copy.deepcopy(preparation).to(device)
        self.features: dict[str, Features] = {
            name: _features(part, placed, device)
            if part.stream is None
            else StreamedFeatures(RecordFile(part.stream), placed, device, windows)
            for name, part in split.items()
        }
        self.task_dataset = {task.name: task.dataset for task in tasks}
        self.targets = {task.name: _tensor(split[task.dataset].targets[task.name], device) for task in tasks}
        self.masks = {task.name: _tensor(split[task.dataset].masks[task.name], device) for task in tasks}
        self.sizes = {name: part.rows for name, part in split.items()}


def _tensor(values: np.ndarray, device: torch.device | str) -> Tensor:
    # A copy, because arrays from Ray's object store are read-only and tensors are not.
    return torch.from_numpy(np.array(values)).to(device)


@torch.no_grad()
def _features(part: Split, preparation: Preparation, device: torch.device | str) -> Features:
    shape = preparation.feature_shape if part.text is None else (preparation.feature_shape[0] - part.text.width,)
    features = torch.empty((part.rows, *shape), device=device)
    for start in range(0, part.rows, _CHUNK):
        stop = min(start + _CHUNK, part.rows)
        features[start:stop] = preparation(*(_tensor(values[start:stop], device) for values in part.encoded))
    return features if part.text is None else SparseFeatures(features, part.text)


@dataclass(frozen=True)
class Batch:
    """One step's rows.

    Attributes:
        rows: Per data set, this rank's row numbers, int64; may be empty on a rank.
        counts: Task to the number of labels in the whole batch, over all ranks; of a multilabel task, entries.
        read: Per data set, the features of those rows, where they were read ahead; else None.
    """

    rows: tuple[Tensor, ...]
    counts: dict[str, int]
    read: tuple[Tensor, ...] | None = None


class BatchPlan:
    """Which rows each step of an epoch takes, from which data set, on which rank.

    Every batch takes the same number of rows from a data set: in proportion to its rows to the power 1 / temperature,
    at least one, never more than it has. The global batch does not depend on the number of ranks; each takes a
    contiguous part. With one data set an epoch is one permutation, less the rows that fill no batch; with several, a
    data set smaller than its share is shuffled anew and goes round.

    Args:
        sizes: Data set to its number of rows.
        masks: Task to where there is a label, bool (n,) or (n, L); row numbers come on their device.
        task_dataset: Task to its data set.
        batch_size: Rows of a batch, over all data sets and ranks.
        temperature: 1 takes rows in proportion, large values evenly from all data sets.
        seed: Order depends on it, the epoch and the data set's name alone.
        rank: This worker.
        world: Number of workers.

    Raises:
        ConfigError: The batch is smaller than one row per data set.

    Attributes:
        steps: Steps per epoch.
        batch_rows: Data set to its rows in a global batch.
        starts: Data set to how many of those rows lie on earlier ranks.
        own_rows: Rows of each data set in this rank's part of it.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        masks: Mapping[str, Tensor],
        task_dataset: Mapping[str, str],
        batch_size: int,
        temperature: float = 1.0,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size < len(sizes):
            rule = f"must be at least the number of data sets, {len(sizes)}"
            raise ConfigError([Problem("batch_size", rule, batch_size)])
        self.steps = max(1, sum(sizes.values()) // batch_size)
        self.batch_rows = rows_of_batch(sizes, batch_size, temperature)
        self._sizes, self._seed = dict(sizes), seed
        self._parts = _parts(list(self.batch_rows.values()), rank, world)
        self.starts = {name: first for name, (first, _) in zip(self.batch_rows, self._parts, strict=True)}
        self.own_rows = tuple(last - first for first, last in self._parts)
        self._device = next((mask.device for mask in masks.values()), torch.device("cpu"))
        self._labels = {task: mask if mask.ndim == 1 else mask.sum(dim=1) for task, mask in masks.items()}
        self._task_dataset = dict(task_dataset)

    def epoch(
        self, epoch: int, features: Sequence[Features] = (), own: Sequence[Tensor] | None = None
    ) -> Iterator[Batch]:
        """The epoch's batches, for this rank.

        Args:
            epoch: Decides the order.
            features: What the batches are for; of rows on disk they are read ahead.
            own: By data set, what row numbers are replaced by; None to leave them.
        """
        rows = {name: self._rows(name, epoch).to(self._device) for name in self._sizes}
        counts = {task: labels[rows[self._task_dataset[task]]].sum(dim=1) for task, labels in self._labels.items()}
        per_task = {task: count.tolist() for task, count in counts.items()}
        mine = [part[:, first:last] for part, (first, last) in zip(rows.values(), self._parts, strict=True)]
        if own is not None:
            mine = [numbers[part] for numbers, part in zip(own, mine, strict=True)]
        streams = [x.batches(part) for x, part in zip(features, mine, strict=False) if isinstance(x, StreamedFeatures)]
        for step in range(self.steps):
            counted = {task: count[step] for task, count in per_task.items()}
            read = tuple(map(next, streams)) if streams else None
            yield Batch(tuple(part[step] for part in mine), counted, read)

    def _rows(self, name: str, epoch: int) -> Tensor:
        """Row numbers (steps, batch rows) of one data set for an epoch."""
        generator = torch.Generator().manual_seed(seed_from(self._seed, "batches", epoch, name))
        needed = self.steps * self.batch_rows[name]
        rounds = -(-needed // self._sizes[name])
        order = torch.cat([torch.randperm(self._sizes[name], generator=generator) for _ in range(rounds)])
        return order[:needed].reshape(self.steps, -1)


def rows_of_batch(sizes: Mapping[str, int], batch_size: int, temperature: float = 1.0) -> dict[str, int]:
    """Rows of each data set in a batch: the closest whole numbers to their shares, at least one, at most all it has.

    Args:
        sizes: Data set to its number of rows.
        batch_size: Rows of a batch in all.
        temperature: 1 takes rows in proportion, large values evenly from all data sets.
    """
    total = min(batch_size, sum(sizes.values()))
    most = np.array(list(sizes.values()))
    # Of logarithms, as a power of a large count may overflow at a low temperature.
    weights = np.exp((np.log(most) - np.log(most.max())) / temperature)
    share = weights / weights.sum() * total
    rows = np.clip(np.floor(share).astype(np.int64), 1, most)
    while rows.sum() < total:
        rows[np.where(rows < most, share - rows, -np.inf).argmax()] += 1
    while rows.sum() > total:
        rows[np.where(rows > 1, share - rows, np.inf).argmin()] -= 1
    return dict(zip(sizes, rows.tolist(), strict=True))


def _parts(rows: Sequence[int], rank: int, world: int) -> list[tuple[int, int]]:
    """The rank's contiguous part of each data set's rows in a batch.

    Rows that do not divide evenly go to the ranks in turn, from one data set to the next, so no rank has over one row
    more than another in total.
    """
    parts, turn = [], 0
    for count in rows:
        each, left = divmod(count, world)
        sizes = [each + ((other - turn) % world < left) for other in range(world)]
        parts.append((sum(sizes[:rank]), sum(sizes[: rank + 1])))
        turn = (turn + left) % world
    return parts
