"""Resampling: a finished model's metrics on one split, and on rows drawn from that split with replacement.

What the metrics differ by from draw to draw says how much of a figure the choice of rows is. All models of a study meet
the same draws, so a comparison of two models has them too.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtl_search.data.batching import DeviceSplit
from mtl_search.data.task import Task
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import seed_from
from mtl_search.training.evaluation import raw_outputs
from mtl_search.training.metrics import check_metric, value_of
from mtl_search.training.torchmetrics_import import Metric

_MOST_ROWS = 40_000_000
"""Rows drawn in all for one task, from which the number of draws follows where a split is large."""
_FEWEST_DRAWS = 100


def evaluate_resampled(
    model: MultiTaskModel, split: DeviceSplit, metrics: Mapping[str, Metric], world: DistributedContext, draws: int
) -> dict[str, dict[str, Any]]:
    """Judge a model on a split and on draws of its rows.

    Args:
        model: Not wrapped; every rank holds the same parameters.
        split: The split, whole, on every rank.
        metrics: Main metric by task, on the world's device; those of the model's tasks that are named here are judged.
        world: The group that evaluates together.
        draws: How often as many rows as there are get drawn with replacement; less often where the split is large.

    Returns:
        By task: ``metric`` (main metric, its own unit), ``resampled`` (the same on each draw; NaN where the metric is
        not defined on what was drawn). The same on every rank.
    """
    largest = max(split.sizes.values())
    draws = min(draws, max(_FEWEST_DRAWS, _MOST_ROWS // max(largest, 1)))
    raw = raw_outputs(model, split, world)
    rows = {name: _drawn_rows(name, split.sizes[name], draws, world.device) for name in model.datasets}
    judged = [task for task in model.tasks if task.name in metrics]
    return {task.name: _judge(task, raw[task.name], split, metrics[task.name], rows[task.dataset]) for task in judged}


def _drawn_rows(dataset: str, rows: int, draws: int, device: torch.device) -> list[Tensor]:
    """Row numbers of each draw, (rows,) int64; the same for every model and every seed of a study."""
    generator = torch.Generator().manual_seed(seed_from("rows", dataset))
    return [torch.randint(rows, (rows,), generator=generator).to(device) for _ in range(draws)]


def _judge(task: Task, raw: Tensor, split: DeviceSplit, metric: Metric, draws: list[Tensor]) -> dict[str, Any]:
    said, targets, mask = task.behaviour.activate(task, raw), split.targets[task.name], split.masks[task.name]
    return {
        "metric": value_of(task, metric, said, targets, mask),
        "resampled": [_judge_drawn(task, metric, said[rows], targets[rows], mask[rows]) for rows in draws],
    }


def _judge_drawn(task: Task, metric: Metric, said: Tensor, targets: Tensor, mask: Tensor) -> float:
    labels = targets[mask]
    if not labels.numel() or (bool((labels == labels[0]).all()) and check_metric(task, metric, targets, mask).broken):
        return float("nan")
    try:
        return value_of(task, metric, said, targets, mask)
    except (ValueError, RuntimeError, IndexError):  # too few labels were drawn
        return float("nan")
