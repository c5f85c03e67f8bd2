"""Batches: one split as inputs on a device, and which rows every step and every worker takes from it.

Last hop of the data path before the training step. Inputs are prepared once; a step only picks rows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mtl_search.data.inputs import HeldInputs, Inputs, InputSource
from mtl_search.data.records import RecordFile
from mtl_search.data.sparse import SparseFeatures
from mtl_search.data.streaming import StreamedInputs, Windows, read_rows_here
from mtl_search.data.study_data import Split
from mtl_search.data.task import Task
from mtl_search.errors import ConfigError, Problem
from mtl_search.input_kinds.preparation import Preparation
from mtl_search.recipe import seed_from

_CHUNK = 8192  # rows prepared at a time, so that one-hot columns need no second copy of the whole split


class DeviceSplit:
    """One split on a device.

    Attributes:
        inputs: Data set to where the inputs of its rows are taken from: memory or disk.
        targets: Task to targets, as in `Split`.
        masks: Task to where there is a label, as in `Split`.
        weights: Task to what each label counts in the loss, as in `Split`.
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
        self.inputs: dict[str, InputSource] = {
            name: _held(part, placed, device)
            if part.stream is None
            else StreamedInputs(RecordFile(part.stream), placed, device, windows)
            for name, part in split.items()
        }
        self.task_dataset = {task.name: task.dataset for task in tasks}
        self.targets = {task.name: _tensor(split[task.dataset].targets[task.name], device) for task in tasks}
        self.masks = {task.name: _tensor(split[task.dataset].masks[task.name], device) for task in tasks}
        self.weights = {
            task.name: _tensor(weights, device)
            for task in tasks
            if (weights := split[task.dataset].weights.get(task.name)) is not None
        }
        self.sizes = {name: part.rows for name, part in split.items()}

    def counted(self, task: str) -> Tensor:
        """What each label of a task counts in the loss: its weight, or whether there is one; (n,) or (n, L)."""
        return self.weights.get(task, self.masks[task])


def _tensor(values: np.ndarray, device: torch.device | str) -> Tensor:
    # A copy, because arrays from Ray's object store are read-only and tensors are not.
    return torch.from_numpy(np.array(values)).to(device)


@torch.no_grad()
def _held(part: Split, preparation: Preparation, device: torch.device | str) -> HeldInputs:
    """The inputs of all rows, filled in chunk by chunk."""
    features: dict[str, Tensor] = {}
    for start in range(0, max(part.rows, 1), _CHUNK):
        stop = min(start + _CHUNK, part.rows)
        chunk = preparation(*(_tensor(values[start:stop], device) for values in part.encoded))
        for name, values in chunk.items():
            whole = features.setdefault(name, torch.empty((part.rows, *values.shape[1:]), device=device))
            whole[start:stop] = values
    if part.text is None:
        return HeldInputs(features)
    return HeldInputs({name: SparseFeatures(dense, part.text) for name, dense in features.items()})


@dataclass(frozen=True)
class BatchRows:
    """Which rows a step takes.

    Attributes:
        rows: Per data set, this rank's row numbers, int64; may be empty on a rank.
        counts: Task to what the labels in the whole batch count together, over all ranks: their number, or the sum of
            their weights; of a multilabel task, over entries.
        read: Per data set, the inputs of those rows, where they were read ahead; else None.
    """

    rows: tuple[Tensor, ...]
    counts: dict[str, float]
    read: tuple[Inputs, ...] | None = None


@dataclass(frozen=True, eq=False)
class TaskLabels:
    """One task's labels in a split.

    Attributes:
        dataset: Index of the task's data set among those of a batch.
        targets: (n, ...).
        mask: Where there is a label, shaped as ``targets``; None where all are.
        weights: What each label counts in the loss, shaped as ``targets``; None where all count 1.
    """

    dataset: int
    targets: Tensor
    mask: Tensor | None
    weights: Tensor | None = None


@dataclass(frozen=True, eq=False)
class BatchContents:
    """What batches of some data sets and tasks are taken from.

    Attributes:
        inputs: Of each data set, in the order in which a batch holds their rows.
        labels: Of each task.
    """

    inputs: Sequence[InputSource]
    labels: Mapping[str, TaskLabels]

    @classmethod
    def of(cls, split: DeviceSplit, datasets: Sequence[str], tasks: Sequence[Task]) -> BatchContents:
        """Those of a split."""
        labels = {}
        for task in tasks:
            mask = split.masks[task.name]
            place = datasets.index(task.dataset)
            weights = split.weights.get(task.name)
            labels[task.name] = TaskLabels(place, split.targets[task.name], None if mask.all() else mask, weights)
        return cls([split.inputs[name] for name in datasets], labels)


class Batch:
    """One step's rows: inputs, targets, masks and counts, each taken from the split when it is first asked for.

    Args:
        chosen: Which rows.
        contents: What they are taken from.
        kept: What leading blocks gave for all rows, by data set, and how many blocks; None to begin at the input.

    Attributes:
        rows: Per data set, this rank's row numbers in the split, int64; may be empty on a rank.
        counts: Task to what the labels in the whole batch count together, over all ranks: their number, or the sum of
            their weights; of a multilabel task, over entries.
        sizes: This rank's rows of each data set.
    """

    def __init__(
        self, chosen: BatchRows, contents: BatchContents, kept: tuple[Sequence[KeptRows], int] | None = None
    ) -> None:
        self._read, self._contents, self._kept = chosen.read, contents, kept
        self.rows, self.counts = chosen.rows, chosen.counts
        self.sizes = [rows.numel() for rows in chosen.rows]

    @cached_property
    def inputs(self) -> Inputs:
        """The inputs of this rank's rows, the data sets one after the other."""
        if self._read is not None:
            return Inputs.cat(self._read)
        return Inputs.cat([part.select(rows) for part, rows in zip(self._contents.inputs, self.rows, strict=True)])

    @cached_property
    def start(self) -> tuple[Inputs | Tensor, int]:
        """What a training pass begins with, and how many blocks that has been through: 0 for the inputs."""
        if self._kept is None:
            return self.inputs, 0
        parts, depth = self._kept
        return concatenate([part.index_select(0, rows) for part, rows in zip(parts, self.rows, strict=True)]), depth

    def targets(self, task: str) -> Tensor:
        """A task's targets for the rows of its data set, (m, ...)."""
        labels = self._contents.labels[task]
        return labels.targets.index_select(0, self.rows[labels.dataset])

    def mask(self, task: str) -> Tensor | None:
        """Where those rows have a label, shaped as the targets; None where all of the split's rows have."""
        labels = self._contents.labels[task]
        return None if labels.mask is None else labels.mask.index_select(0, self.rows[labels.dataset])

    def weights(self, task: str) -> Tensor | None:
        """What the labels of those rows count in the loss, shaped as the targets; None where all count 1."""
        labels = self._contents.labels[task]
        return None if labels.weights is None else labels.weights.index_select(0, self.rows[labels.dataset])


class KeptRows(Protocol):
    """What blocks gave for the rows of a data set."""

    def index_select(self, dim: int, rows: Tensor, /) -> Tensor:
        """Rows by number, on the training device."""


def concatenate(parts: Sequence[Tensor]) -> Tensor:
    """The rows of the data sets one after the other; of one alone this very tensor."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


class BatchPlan:
    """Which rows each step of an epoch takes, from which data set, on which rank.

    Every batch takes the same number of rows from a data set: in proportion to its rows to the power 1 / temperature,
    at least one, never more than it has. The global batch does not depend on the number of ranks; each takes a
    contiguous part. With one data set an epoch is one permutation, less the rows that fill no batch; with several, a
    data set smaller than its share is shuffled anew and goes round.

    Args:
        sizes: Data set to its number of rows.
        masks: Task to what each label counts, (n,) or (n, L): a weight, or whether there is one; row numbers come on
            their device.
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
        self, epoch: int, inputs: Sequence[InputSource] = (), own: Sequence[Tensor] | None = None
    ) -> Iterator[BatchRows]:
        """The rows of the epoch's batches, for this rank.

        Args:
            epoch: Decides the order.
            inputs: What the batches are for; of rows on disk they are read ahead.
            own: By data set, what row numbers are replaced by; None to leave them.
        """
        rows = {name: self._rows(name, epoch).to(self._device) for name in self._sizes}
        counts = {task: labels[rows[self._task_dataset[task]]].sum(dim=1) for task, labels in self._labels.items()}
        per_task = {task: count.tolist() for task, count in counts.items()}
        mine = [part[:, first:last] for part, (first, last) in zip(rows.values(), self._parts, strict=True)]
        if own is not None:
            mine = [numbers[part] for numbers, part in zip(own, mine, strict=True)]
        streams = [x.batches(part) for x, part in zip(inputs, mine, strict=False) if isinstance(x, StreamedInputs)]
        for step in range(self.steps):
            counted = {task: count[step] for task, count in per_task.items()}
            read = tuple(map(next, streams)) if streams else None
            yield BatchRows(tuple(part[step] for part in mine), counted, read)

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
