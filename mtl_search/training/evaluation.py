"""Evaluation: a model's metrics on one split, exact over any number of workers.

Every rank predicts its share of the rows; raw outputs are gathered, so that each metric is computed once on all rows
and every rank ends with the same numbers.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from mtl_search.data.batching import DeviceSplit
from mtl_search.data.sparse import Features
from mtl_search.data.task import Task
from mtl_search.models.heads import predict
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.training.losses import loss_sum
from mtl_search.training.metrics import in_raw_units, measure
from mtl_search.training.world import World

CHUNK = 4096
"""Rows of one forward pass in evaluation."""


@torch.no_grad()  # not inference mode: what a user's block keeps from here must be of use in training
def evaluate(
    model: MultiTaskModel, split: DeviceSplit, metrics: Mapping[str, Metric], world: World
) -> dict[str, dict[str, float]]:
    """Judge a model on a split.

    Args:
        model: Not wrapped; every rank holds the same parameters. Its tasks are judged.
        split: The split, whole, on every rank.
        metrics: Main metric by task, on the world's device.
        world: The group that evaluates together.

    Returns:
        By task: ``metric`` (main metric, its own unit) and ``loss`` (mean over labelled entries, lower is better). The
        same on every rank.
    """
    was_training = model.training
    model.eval()
    results: dict[str, dict[str, float]] = {}
    for dataset in model.datasets:
        tasks = [task for task in model.tasks if task.dataset == dataset]
        if tasks:
            raw = _raw_outputs(model, split.features[dataset], dataset, tasks, world)
            results |= {task.name: _judge(task, raw[task.name], split, metrics[task.name]) for task in tasks}
    model.train(was_training)
    return {task.name: results[task.name] for task in model.tasks}


def _raw_outputs(
    model: MultiTaskModel, features: Features, dataset: str, tasks: Sequence[Task], world: World
) -> dict[str, Tensor]:
    """Raw outputs (n, ...) by task over all rows of one data set, gathered over ranks."""
    counts, mine = world.share_of(len(features))
    starts = range(mine.start, mine.stop, CHUNK) or [mine.stop]  # no rows still make one pass
    parts: dict[str, list[Tensor]] = {task.name: [] for task in tasks}
    for start in starts:
        chunk = features[start : min(start + CHUNK, mine.stop)]
        sizes = tuple(len(chunk) if name == dataset else 0 for name in model.datasets)
        with world.autocast():
            outputs = model(chunk, sizes)
        for task in tasks:
            parts[task.name].append(outputs[task.name].float())
    return {name: world.gather_rows(torch.cat(part), counts) for name, part in parts.items()}


def _judge(task: Task, raw: Tensor, split: DeviceSplit, metric: Metric) -> dict[str, float]:
    targets, mask = split.targets[task.name], split.masks[task.name]
    loss = loss_sum(task.loss, raw, targets, mask) / mask.sum()
    return {
        "metric": measure(metric, predict(task, raw), in_raw_units(task, targets), mask),
        "loss": float(loss),
    }
