"""Judging: old tasks before and after, new tasks against a prediction that looks at no input, and what moved.

Reads the splits of the file that `extend` is given; the training loop has its own evaluation.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtl_search.data.batching import DeviceSplit
from mtl_search.data.study_data import StudyData
from mtl_search.data.task import Task
from mtl_search.extension.soft_targets import raw_outputs
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.results.objective import Goal
from mtl_search.training.metrics import check_metric, metric_for, value_of

SPLITS = ("validation", "test")
TaskComparison = dict[str, dict[str, dict[str, float | None]]]
"""By task, then split, then model."""


def compare_tasks(models: Mapping[str, MultiTaskModel], data: StudyData, device: torch.device) -> TaskComparison:
    """Main metrics of every task of the data that a model has, and of a trivial prediction where one has it not.

    Args:
        models: On the device, by the name that their figures get.
        data: Held-out rows.
        device: Where to.

    Returns:
        By task and split, in the metric's own unit: each model's that has the task, and ``trivial``: that of class
        frequencies or the mean of the training rows for every row. None where a metric is not defined.
    """
    judged: TaskComparison = {task.name: {} for task in data.tasks}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torchmetrics warns of shows in the figures
        for name in SPLITS:
            split = DeviceSplit(data.splits[name], data.preparation, data.tasks, device)
            for dataset, inputs in split.inputs.items():
                tasks = [task for task in data.tasks if task.dataset == dataset]
                outputs = {model: raw_outputs(models[model], inputs) for model in models}
                for task in tasks:
                    said = {
                        model: task.behaviour.activate(task, raw[task.name])
                        for model, raw in outputs.items()
                        if task.name in raw
                    }
                    if len(said) < len(models):
                        said["trivial"] = _trivial(task, data, split.sizes[dataset]).to(device)
                    judged[task.name][name] = {m: _figure(task, value, split) for m, value in said.items()}
    return judged


def _figure(task: Task, said: Tensor, split: DeviceSplit) -> float | None:
    metric, targets, mask = metric_for(task).to(said.device), split.targets[task.name], split.masks[task.name]
    if check_metric(task, metric, targets, mask).broken:
        return None
    value = value_of(task, metric, said, targets, mask)
    return value if math.isfinite(value) else None


def _trivial(task: Task, data: StudyData, rows: int) -> Tensor:
    """The same prediction for every row: frequencies or the mean of the labels in the training rows."""
    part = data.splits["train"][task.dataset]
    targets, mask = torch.from_numpy(part.targets[task.name]), torch.from_numpy(part.masks[task.name])
    return task.behaviour.constant(task, targets, mask, rows)


def moved_outputs(old: MultiTaskModel, new: MultiTaskModel, data: StudyData, device: torch.device) -> dict[str, float]:
    """How far the predictions of old tasks moved: mean absolute difference over the validation rows of all data sets.

    Returns:
        By old task, of probabilities, or of values in units of the targets' spread; 0 where every bit is the same.
    """
    split = DeviceSplit(data.splits["validation"], data.preparation, data.tasks, device)
    sums, rows = dict.fromkeys((task.name for task in old.tasks), 0.0), 0
    for inputs in split.inputs.values():
        before, after = raw_outputs(old, inputs), raw_outputs(new, inputs)
        rows += len(inputs)
        for task in old.tasks:
            pair = (task.behaviour.predict(task, outputs[task.name]).cpu().double() for outputs in (before, after))
            apart = torch.sub(*pair).abs()
            apart = apart.flatten(1) if apart.dim() > 1 else apart[:, None]
            sums[task.name] += float(apart.mean(1).sum()) / task.scale
    return {name: total / max(rows, 1) for name, total in sums.items()}


def figures(task: Task, goal: Goal, judged: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
    """One task's figures as plain JSON."""
    return {
        "metric": task.metric.name,
        "higher_is_better": goal.higher_is_better,
        **{split: dict(judged[split]) for split in SPLITS},
    }
