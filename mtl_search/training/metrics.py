"""Metrics by name: a task's main metric as a torchmetrics object, its direction and its natural scale.

A short alias per kind for what people mostly ask for; beyond those any torchmetrics class by its own name.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torchmetrics
from torch import Tensor
from torchmetrics import Metric

from mtl_search.data.study_data import StudyData
from mtl_search.data.task import Task
from mtl_search.errors import NOTHING, ConfigError, Problem
from mtl_search.training.objective import Goal

ALIASES: Mapping[str, Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "classification": {
        "accuracy": ("MulticlassAccuracy", {"average": "micro"}),
        "balanced_accuracy": ("MulticlassAccuracy", {"average": "macro"}),
        "auroc": ("MulticlassAUROC", {"average": "macro"}),
        "macro_f1": ("MulticlassF1Score", {"average": "macro"}),
    },
    "binary": {
        "accuracy": ("BinaryAccuracy", {}),
        "auroc": ("BinaryAUROC", {}),
        "average_precision": ("BinaryAveragePrecision", {}),
        "f1": ("BinaryF1Score", {}),
    },
    "multilabel": {
        "macro_f1": ("MultilabelF1Score", {"average": "macro"}),
        "accuracy": ("MultilabelAccuracy", {"average": "macro"}),
        "auroc": ("MultilabelAUROC", {"average": "macro"}),
    },
    "regression": {
        "rmse": ("MeanSquaredError", {"squared": False}),
        "mse": ("MeanSquaredError", {}),
        "mae": ("MeanAbsoluteError", {}),
        "r2": ("R2Score", {}),
        "spearman": ("SpearmanCorrCoef", {}),
    },
}
_PREFIX = {"classification": "Multiclass", "binary": "Binary", "multilabel": "Multilabel", "regression": ""}
_MODULE = {"regression": torchmetrics.regression}
MASKED = -1
"""Stands for a missing label of a multilabel row; torchmetrics leaves such entries out."""


def metric_for(task: Task) -> Metric:
    """Build a task's main metric.

    Raises:
        ConfigError: No such metric for this kind, wrong parameters, or a metric without a direction.
    """
    place = f"tasks.{task.name}.metric"
    name, preset = ALIASES[task.kind].get(task.metric.name, (task.metric.name, {}))
    module = _MODULE.get(task.kind, torchmetrics.classification)
    known = [candidate for candidate in (name, _PREFIX[task.kind] + name) if _is_metric(module, candidate)]
    if not known:
        rule = f"must be a metric for {task.kind} tasks or a torchmetrics class"
        raise ConfigError([Problem(place, rule, task.metric.name, tuple(ALIASES[task.kind]))])
    sizes = {"classification": {"num_classes": task.outputs}, "multilabel": {"num_labels": task.outputs}}
    fixed: dict[str, Any] = {**sizes.get(task.kind, {}), **preset}
    if task.kind == "multilabel":
        fixed["ignore_index"] = MASKED
    if task.kind != "regression":
        fixed["validate_args"] = False
    try:
        checked = {**fixed, **task.metric.params} | ({"validate_args": True} if "validate_args" in fixed else {})
        getattr(module, known[-1])(**checked)
        metric = getattr(module, known[-1])(**{**fixed, **task.metric.params})
    except (TypeError, ValueError) as error:
        raise ConfigError([Problem(place, f"must fit torchmetrics' {known[-1]} ({error})", NOTHING)]) from error
    if not isinstance(metric, Metric) or metric.higher_is_better is None:
        raise ConfigError([Problem(place, "must be one number with a direction (higher or lower is better)", name)])
    return metric


def _is_metric(module: Any, name: str) -> bool:
    found = getattr(module, name, None)
    return isinstance(found, type) and issubclass(found, Metric)


def measure(metric: Metric, predictions: Tensor, targets: Tensor, mask: Tensor) -> float:
    """Value of a metric on the labelled rows.

    Args:
        metric: From ``metric_for``; reset before and after.
        predictions: (n,), (n, classes) or (n, labels): probabilities or values in raw units.
        targets: (n,) or (n, labels), labels as numbers or values in raw units.
        mask: Where a label is present, shaped as ``targets``.

    Returns:
        The metric in its own unit; NaN where it is not defined on these labels.
    """
    metric.reset()
    if targets.dim() > 1:
        metric.update(predictions, torch.where(mask, targets, MASKED).long())
    elif predictions.dim() > 1 or not targets.is_floating_point():
        metric.update(predictions[mask], targets[mask].long())
    else:
        metric.update(predictions[mask], targets[mask])
    value = float(metric.compute())
    metric.reset()
    return value


def task_goals(data: StudyData) -> dict[str, Goal]:
    """Direction and natural scale of every task's main metric; baselines come later.

    Raises:
        ConfigError: A metric that does not exist or does not fit its task, all of them at once.
    """
    problems: list[Problem] = []
    goals = {}
    for task in data.tasks:
        try:
            metric = metric_for(task)
        except ConfigError as error:
            problems += error.problems
            continue
        goals[task.name] = Goal(bool(metric.higher_is_better), scale=_natural_scale(task, metric, data))
    if problems:
        raise ConfigError(problems)
    return goals


def _natural_scale(task: Task, metric: Metric, data: StudyData) -> float:
    """1 for scores; for errors of a regression task the validation error of predicting the training mean."""
    if task.kind != "regression" or metric.higher_is_better:
        return 1.0
    split = data.splits["validation"][task.dataset]
    targets = in_raw_units(task, torch.from_numpy(split.targets[task.name]))
    mask = torch.from_numpy(split.masks[task.name])
    trivial = measure(metric, torch.full_like(targets, task.center), targets, mask)
    return trivial if trivial > 0 else 1.0


def in_raw_units(task: Task, targets: Tensor) -> Tensor:
    """Targets as a user knows them: regression values unscaled, labels as they are."""
    return targets * task.scale + task.center if task.kind == "regression" else targets
