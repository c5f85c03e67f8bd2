"""Metrics by name: a task's main metric as a torchmetrics object, its direction and its natural scale.

A short alias per kind for what people mostly ask for; beyond those any torchmetrics class by its own name.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torchmetrics
from torch import Tensor
from torch.nn import functional
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
    # Every rank gives its metric all rows, so ranks have nothing to sum up.
    fixed: dict[str, Any] = {**sizes.get(task.kind, {}), **preset, "sync_on_compute": False}
    if task.kind == "multilabel":
        fixed["ignore_index"] = MASKED
    try:
        if task.kind != "regression":  # the arguments are checked once, here, and not again with every update
            _construct(module, known[-1], {**fixed, **task.metric.params, "validate_args": True})
            fixed["validate_args"] = False
        metric = _construct(module, known[-1], {**fixed, **task.metric.params})
    except (TypeError, ValueError) as error:
        raise ConfigError([Problem(place, f"must fit torchmetrics' {known[-1]} ({error})", NOTHING)]) from error
    if not isinstance(metric, Metric) or metric.higher_is_better is None:
        raise ConfigError([Problem(place, "must be one number with a direction (higher or lower is better)", name)])
    return metric


def _construct(module: Any, name: str, arguments: Mapping[str, Any]) -> Any:
    with warnings.catch_warnings():
        # A validation split fits in memory, twice.
        warnings.filterwarnings("ignore", message=".*will save all targets and predictions in (the )?buffer")
        return getattr(module, name)(**arguments)


def _is_metric(module: Any, name: str) -> bool:
    found = getattr(module, name, None)
    return isinstance(found, type) and issubclass(found, Metric)


def measure(metric: Metric, predictions: Tensor, targets: Tensor, mask: Tensor) -> float:
    """Value of a metric on the labelled rows.

    Args:
        metric: From ``metric_for``; reset before and after.
        predictions: (n,), (n, classes) or (n, labels): probabilities or values in raw units.
        targets: (n,) or (n, labels), as ``in_raw_units`` gives them.
        mask: Where a label is present, shaped as ``targets``.

    Returns:
        The metric in its own unit; NaN where it is not defined on these labels.
    """
    metric.reset()
    if targets.dim() > 1:
        metric.update(predictions, torch.where(mask, targets, MASKED))
    else:
        metric.update(predictions[mask], targets[mask])
    value = float(metric.compute())
    metric.reset()
    return value


def task_goals(data: StudyData, tasks: Sequence[Task] | None = None) -> dict[str, Goal]:
    """Direction and natural scale of every task's main metric; baselines come later.

    Args:
        data: The study's.
        tasks: Some of its tasks or source tasks; None for its tasks.

    Raises:
        ConfigError: A metric that does not exist, does not fit its task, or tells nothing on its validation labels; all
            of them at once.
    """
    problems: list[Problem] = []
    goals = {}
    for task in data.tasks if tasks is None else tasks:
        try:
            goals[task.name] = _goal(task, data)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return goals


def _goal(task: Task, data: StudyData) -> Goal:
    """A task's goal; its scale is 1 for scores and, for errors of a regression task, that of the training mean."""
    metric = metric_for(task)
    split = data.splits["validation"][task.dataset]
    targets = in_raw_units(task, torch.from_numpy(split.targets[task.name]))
    mask = torch.from_numpy(split.masks[task.name])
    place, name = f"tasks.{task.name}.metric", task.metric.name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torchmetrics warns of here is judged by the values
        try:
            perfect = measure(metric, _perfect(task, targets), targets, mask)
            trivial = measure(metric, _trivial(task, targets), targets, mask)
        except (ValueError, RuntimeError, TypeError, IndexError) as error:
            rule = f"must give one number on the validation labels ({str(error).partition(chr(10))[0]})"
            raise ConfigError([Problem(place, rule, name)]) from error
    if not math.isfinite(perfect) or perfect == trivial:
        rule = "must tell perfect predictions from wrong ones on the validation labels"
        raise ConfigError([Problem(place, f"{rule}, gives {perfect:g} for both" if perfect == trivial else rule, name)])
    higher = bool(metric.higher_is_better)
    natural = task.kind == "regression" and not higher and math.isfinite(trivial)
    return Goal(higher, scale=abs(trivial) if natural else 1.0)


def _perfect(task: Task, targets: Tensor) -> Tensor:
    """Predictions that say what the labels say."""
    if task.kind == "classification":
        return functional.one_hot(targets, task.outputs).float()
    return targets if task.kind == "regression" else targets.float()


def _trivial(task: Task, targets: Tensor) -> Tensor:
    """The training mean for every row of a regression task; the contrary of every label for other kinds."""
    if task.kind == "regression":
        return torch.full_like(targets, task.center)
    return _perfect(task, (targets + 1) % (task.outputs if task.kind == "classification" else 2))


def in_raw_units(task: Task, targets: Tensor) -> Tensor:
    """Targets as a user knows them: regression values unscaled, labels as whole numbers."""
    return targets * task.scale + task.center if task.kind == "regression" else targets.long()
