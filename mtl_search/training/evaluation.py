"""Evaluation: a model's metrics on one split, exact over any number of workers.

Every rank predicts its share of the rows; raw outputs are gathered, so that each metric is computed once on all rows
and every rank ends with the same numbers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mtl_search.data.batching import DeviceSplit
from mtl_search.data.inputs import Inputs
from mtl_search.data.task import Task
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.modes import evaluating
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.training.metrics import value_of
from mtl_search.training.torchmetrics_import import Metric

CHUNK = 4096
"""Rows of one forward pass in evaluation."""


class Sliceable(Protocol):
    """Inputs of some rows, of which a pass takes a part."""

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, rows: slice, /) -> Inputs:
        """Rows from start to stop, on the training device."""


@dataclass(frozen=True)
class ForwardPasses:
    """What an evaluation runs the model on; of use once.

    Attributes:
        batches: This rank's rows pass by pass: inputs, or what leading blocks give for them, and the rows of each data
            set in them.
        start_block: Number of leading blocks that they have been through.
    """

    batches: Iterable[tuple[Inputs | Tensor, Sequence[int]]]
    start_block: int = 0


def evaluate(
    model: MultiTaskModel,
    split: DeviceSplit,
    metrics: Mapping[str, Metric | None],
    world: DistributedContext,
    passes: ForwardPasses | None = None,
) -> dict[str, dict[str, float]]:
    """Judge a model on a split.

    Args:
        model: Not wrapped; every rank holds the same parameters.
        split: The split, whole, on every rank.
        metrics: Main metric by task, on the world's device; those of the model's tasks that are named here are judged,
            by their loss where there is no metric.
        world: The group that evaluates together.
        passes: Over the split's rows; those from the input if not given.

    Returns:
        By task: ``metric`` (main metric, its own unit) and ``loss`` (mean over labelled entries, weighted as in
        training; lower is better). The same on every rank.
    """
    raw = raw_outputs(model, split, world, passes)
    judged = [task for task in model.tasks if task.name in metrics]
    return {task.name: _judge(task, raw[task.name], split, metrics[task.name]) for task in judged}


def slices_of(inputs: Sequence[Sliceable], world: DistributedContext) -> list[list[slice]]:
    """This rank's rows of each data set, pass by pass.

    Every pass takes a part of each data set, so that there are as few passes with a data set per task as with one.
    """
    mine = [world.share_of(len(part))[1] for part in inputs]
    return cut_evenly(mine, max(1, -(-sum(own.stop - own.start for own in mine) // CHUNK)))


def cut_evenly(rows: Sequence[slice], passes: int) -> list[list[slice]]:
    """The rows of each data set, pass by pass: every pass takes as many of a data set, or one more."""
    return [[_part(own, number, passes) for own in rows] for number in range(passes)]


def passes_of(inputs: Sequence[Sliceable], slices: Sequence[Sequence[slice]]) -> ForwardPasses:
    """Passes that begin at the input.

    Args:
        inputs: By data set of the model.
        slices: The rows of each data set, pass by pass.
    """
    return ForwardPasses(
        (
            Inputs.cat([part[own] for part, own in zip(inputs, cut, strict=True)]),
            [own.stop - own.start for own in cut],
        )
        for cut in slices
    )


@torch.no_grad()  # not inference mode: what a user's block keeps from here must be of use in training
def raw_outputs(
    model: MultiTaskModel, split: DeviceSplit, world: DistributedContext, passes: ForwardPasses | None = None
) -> dict[str, Tensor]:
    """Raw outputs (n, ...) by task over all rows of its data set, gathered over ranks.

    Args:
        model: Not wrapped; every rank holds the same parameters.
        split: The split, whole, on every rank.
        world: The group that evaluates together.
        passes: Over the split's rows; those from the input if not given.
    """
    inputs = [split.inputs[name] for name in model.datasets]
    passes = passes or passes_of(inputs, slices_of(inputs, world))
    counts = [world.share_of(len(part))[0] for part in inputs]
    parts: dict[str, list[Tensor]] = {task.name: [] for task in model.tasks}
    with evaluating(model):
        for x, sizes in passes.batches:
            with world.autocast():
                outputs = model(x, sizes, start_block=passes.start_block)
            for name, output in outputs.items():
                parts[name].append(output.float())
    task_datasets = {task.name: counts[model.datasets.index(task.dataset)] for task in model.tasks}
    return {name: world.gather_rows(torch.cat(part), task_datasets[name]) for name, part in parts.items()}


def _part(own: slice, number: int, passes: int) -> slice:
    """The rows of one pass out of a rank's own."""
    rows = own.stop - own.start
    return slice(own.start + rows * number // passes, own.start + rows * (number + 1) // passes)


def _judge(task: Task, raw: Tensor, split: DeviceSplit, metric: Metric | None) -> dict[str, float]:
    targets, mask = split.targets[task.name], split.masks[task.name]
    kind = task.behaviour
    total = kind.loss_sum(task, raw, targets, mask, split.weights.get(task.name))
    loss = float(total / split.counted(task.name).sum())
    value = loss if metric is None else value_of(task, metric, kind.activate(task, raw), targets, mask)
    return {"metric": value, "loss": loss}
