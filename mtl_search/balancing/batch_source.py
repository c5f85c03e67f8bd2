"""Batch source: the rows of the training split that one purpose takes its batches from.

All rows train, unless the weighting learns from rows kept aside: then these are drawn once per stage.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import torch
from torch import Tensor

from mtl_search.data.batching import Batch, BatchContents, BatchPlan, DeviceSplit, KeptRows
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Schedule, seed_from


class BatchSource:
    """Batches of some rows of the training split.

    Args:
        plan: Over these rows, numbered among themselves.
        contents: What the batches are taken from.
        own: The rows' numbers in the split by data set; None where they are all of it.

    Attributes:
        steps: Batches per epoch.
        rows: Rows of each data set in a global batch.
        starts: For each data set, how many of those rows lie on earlier ranks.
        own_rows: Rows of each data set in this rank's part of it.
    """

    def __init__(self, plan: BatchPlan, contents: BatchContents, own: Mapping[str, Tensor] | None = None) -> None:
        self._plan, self._contents = plan, contents
        self._own = None if own is None else list(own.values())
        self.steps = plan.steps
        self.rows = tuple(plan.batch_rows.values())
        self.starts = tuple(plan.starts.values())
        self.own_rows = plan.own_rows

    def epoch(self, epoch: int, kept: tuple[Sequence[KeptRows], int] | None = None) -> Iterator[Batch]:
        """The epoch's batches for this rank, rows numbered as in the split.

        Args:
            epoch: Decides the order.
            kept: What leading blocks gave for all rows, by data set, and how many blocks; None to begin at the input,
                which is read ahead where rows are on disk.
        """
        ahead = () if kept is not None else self._contents.inputs
        return (Batch(chosen, self._contents, kept) for chosen in self._plan.epoch(epoch, ahead, self._own))

    def endless(self, start: int) -> Iterator[Batch]:
        """Batches without end, one epoch's after the other; another ``start`` gives another order."""
        for turn in count():
            for chosen in self._plan.epoch(seed_from(start, turn), (), self._own):
                yield Batch(chosen, self._contents)


def batch_sources(
    model: MultiTaskModel, split: DeviceSplit, schedule: Schedule, holdout: float, seed: int, world: DistributedContext
) -> tuple[BatchSource, BatchSource | None]:
    """What the model trains on, and what is kept aside, if anything is.

    Args:
        model: Its tasks and data sets.
        split: Training split.
        schedule: Batch size and temperature, for both.
        holdout: Share of every data set's rows to keep aside, at least one row; 0 for none.
        seed: Decides which.
        world: The group that trains together.
    """
    contents = BatchContents.of(split, model.datasets, model.tasks)
    if not holdout:
        return BatchSource(_plan(model, split, None, schedule, seed, world), contents), None
    kept, others = {}, {}
    for name in model.datasets:
        total = len(split.inputs[name])
        generator = torch.Generator().manual_seed(seed_from(seed, "holdout", name))
        order = torch.randperm(total, generator=generator).to(world.device)
        cut = min(max(1, round(holdout * total)), total - 1) if total > 1 else 0
        kept[name], others[name] = order[:cut] if cut else order, order[cut:]
    aside = _plan(model, split, kept, schedule, seed_from(seed, "holdout"), world)
    train = _plan(model, split, others, schedule, seed, world)
    return BatchSource(train, contents, others), BatchSource(aside, contents, kept)


def _plan(
    model: MultiTaskModel,
    split: DeviceSplit,
    own: Mapping[str, Tensor] | None,
    schedule: Schedule,
    seed: int,
    world: DistributedContext,
) -> BatchPlan:
    masks = {task.name: split.counted(task.name) for task in model.tasks}
    if own is not None:
        masks = {task.name: masks[task.name].index_select(0, own[task.dataset]) for task in model.tasks}
    sizes = {name: len(split.inputs[name] if own is None else own[name]) for name in model.datasets}
    task_datasets = {task.name: task.dataset for task in model.tasks}
    return BatchPlan(
        sizes, masks, task_datasets, schedule.batch_size, schedule.temperature, seed, world.rank, world.size
    )
