"""Metrics by name: a task's main metric as a torchmetrics object, its direction and its natural scale.

A short alias per kind for what people mostly ask for; beyond those any torchmetrics class by its own name.
"""

import importlib
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtl_search.data.study_data import StudyData
from mtl_search.data.task import Task
from mtl_search.errors import NOTHING, ConfigError, Problem
from mtl_search.results.objective import Goal
from mtl_search.task_kinds.base import MASKED
from mtl_search.training.torchmetrics_import import Metric

_SHORT = 1e-4
"""What perfect predictions may lack of a metric's highest value by rounding."""
_POWERS = {
    "MeanAbsoluteError": 1,
    "MeanSquaredError": 2,
    "R2Score": 0,
    "ExplainedVariance": 0,
    "RelativeSquaredError": 0,
    "PearsonCorrelation": 0,
    "SpearmanCorrCoef": 0,
    "ConcordanceCorrCoef": 0,
}
"""The power of the target's scale that a metric has. Shifting targets and predictions alike changes none of these."""


def metric_for(task: Task) -> Metric:
    """Build a task's main metric.

    Raises:
        ConfigError: No such metric for this kind, wrong parameters, or a metric without a direction.
    """
    place = f"tasks.{task.name}.metric"
    kind = task.behaviour
    name, preset = kind.aliases.get(task.metric.name, (task.metric.name, {}))
    found = kind.own_metrics() | _metrics_in(kind.metric_module)
    known = [candidate for candidate in (name, kind.metric_prefix + name) if candidate in found]
    if not known:
        rule = f"must be a metric for {task.kind} tasks or a torchmetrics class"
        raise ConfigError([Problem(place, rule, task.metric.name, tuple(kind.aliases))])
    chosen = found[known[-1]]
    # Every rank gives its metric all rows, so ranks have nothing to sum up.
    fixed: dict[str, Any] = {**kind.metric_arguments(task), **preset, "sync_on_compute": False}
    try:
        if kind.checks_metric_arguments:  # once, here, and not again with every update
            _construct(chosen, {**fixed, **task.metric.params, "validate_args": True})
            fixed["validate_args"] = False
        metric = _construct(chosen, {**fixed, **task.metric.params})
        if isinstance(metric, Metric) and task.double:
            metric.set_dtype(torch.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError([Problem(place, f"must fit torchmetrics' {known[-1]} ({error})", NOTHING)]) from error
    if not isinstance(metric, Metric) or metric.higher_is_better is None:
        raise ConfigError([Problem(place, "must be one number with a direction (higher or lower is better)", name)])
    return metric


def _construct(metric: Any, arguments: Mapping[str, Any]) -> Any:
    with warnings.catch_warnings():
        # A validation split fits in memory, twice.
        warnings.filterwarnings("ignore", message=".*will save all targets and predictions in (the )?buffer")
        return metric(**arguments)


def _metrics_in(module: str) -> dict[str, type[Metric]]:
    """The metrics of a torchmetrics module by name."""
    members = vars(importlib.import_module(module)).items()
    return {name: member for name, member in members if isinstance(member, type) and issubclass(member, Metric)}


def measure_metric(metric: Metric, predictions: Tensor, targets: Tensor, mask: Tensor) -> float:
    """Value of a metric on the labelled rows.

    Args:
        metric: From ``metric_for``; reset before and after.
        predictions: (n,), (n, classes) or (n, labels): probabilities or values in raw units.
        targets: (n,) or (n, labels), as ``TaskKind.targets_in_own_unit`` gives them.
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


def value_of(task: Task, metric: Metric, said: Tensor, targets: Tensor, mask: Tensor) -> float:
    """Value of a task's main metric.

    Where values in the target's unit are too far from zero, too large or too small for float32, all is float64. Metrics
    that scale with the target are then taken on scaled values, and brought to the target's unit.

    Args:
        task: The task.
        metric: Its metric, from ``metric_for``.
        said: As ``TaskKind.activate`` gives it.
        targets: As a split holds them.
        mask: Where a label is present, shaped as ``targets``.

    Returns:
        As ``measure``.
    """
    power = _power(metric)
    if power is not None and task.double:
        return measure_metric(metric, said.double(), targets.double(), mask) * task.scale**power
    kind = task.behaviour
    return measure_metric(metric, kind.in_own_unit(task, said), kind.targets_in_own_unit(task, targets), mask)


def _power(metric: Metric) -> int | None:
    """The power of the target's scale that a metric has; None where it does not scale with the target."""
    name = type(metric).__name__
    return 1 if name == "MeanSquaredError" and not metric.squared else _POWERS.get(name)


class MetricCheck(NamedTuple):
    """What a metric can come to on some labels.

    Attributes:
        perfect: Its value where predictions say what the labels say.
        trivial: Its value for the training mean, or for the contrary of every label.
        broken: The rule that it breaks on these labels, where it is not defined; empty where it is.
        reason: Why it breaks the rule.
        partial: Whether perfect predictions stay below its highest value: a class without rows counts as 0.
    """

    perfect: float
    trivial: float
    broken: str = ""
    reason: str = ""
    partial: bool = False


LOSS = "loss"
"""What a task is judged by whose metric is not defined on its validation labels."""
_NOT_JUDGED = "the task is not judged, and its loss picks the best epoch"
_TELLS = "must tell perfect predictions from wrong ones"


@torch.no_grad()
def check_metric(task: Task, metric: Metric, targets: Tensor, mask: Tensor) -> MetricCheck:
    """Hold a task's metric against labels, whatever a model says of them.

    Args:
        task: The task.
        metric: Its metric, from ``metric_for``, on the device of the labels.
        targets: As a split holds them.
        mask: Where a label is present, shaped as ``targets``.
    """
    kind = task.behaviour
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torchmetrics warns of here is judged by the values
        try:
            perfect = value_of(task, metric, kind.perfect(task, targets), targets, mask)
            trivial = value_of(task, metric, kind.trivial(task, targets), targets, mask)
        except (ValueError, RuntimeError, TypeError, IndexError) as error:
            return MetricCheck(math.nan, math.nan, "must give one number", str(error).partition("\n")[0].rstrip("."))
    if perfect == trivial:
        return MetricCheck(perfect, trivial, _TELLS, f"it gives {perfect:g} for perfect and for wrong ones")
    if not math.isfinite(perfect):
        return MetricCheck(perfect, trivial, _TELLS, f"it gives {perfect:g}")
    if _power(metric) == 0 and bool((targets[mask] == targets[mask][0]).all()):
        return MetricCheck(perfect, trivial, _TELLS, "they are all the same")
    highest = metric.plot_upper_bound if metric.higher_is_better else None
    return MetricCheck(perfect, trivial, partial=highest is not None and perfect < highest - _SHORT)


def check_metric_on(task: Task, data: StudyData, split: str) -> MetricCheck:
    """The same for the labels of one of a study's splits.

    Raises:
        ConfigError: As ``metric_for``.
    """
    part = data.splits[split][task.dataset]
    return check_metric(
        task, metric_for(task), torch.from_numpy(part.targets[task.name]), torch.from_numpy(part.masks[task.name])
    )


def metric_notes(data: StudyData) -> list[str]:
    """What a user should know of the tasks' metrics on held-out labels: a line for each task and split."""
    notes = []
    for task in data.tasks:
        place = f"tasks.{task.name}.metric: {task.metric.name}"
        for split in ("validation", "test"):
            found = check_metric_on(task, data, split)
            if found.broken:
                what = "no test figure of this task will be reported" if split == "test" else _NOT_JUDGED
                notes.append(f"{place} is not defined on the {split} labels ({found.reason}): {what}")
            elif found.partial:
                notes.append(
                    f"{place} gives perfect predictions only {found.perfect:.3g} on the {split} labels, "
                    "since it counts a class that has no rows there as 0"
                )
    return notes


def task_goals(data: StudyData, tasks: Sequence[Task] | None = None) -> dict[str, Goal]:
    """Direction and natural scale of every task's main metric; baselines come later.

    A task whose metric is not defined on its validation labels is not judged.

    Args:
        data: The study's.
        tasks: Some of its tasks or source tasks; None for its tasks.

    Raises:
        ConfigError: A metric that does not exist or does not fit its task, or no task that can be judged; all at once.
    """
    problems: list[Problem] = []
    goals, unjudged = {}, []
    for task in data.tasks if tasks is None else tasks:
        try:
            goals[task.name] = _goal(task, data)
        except ConfigError as error:
            problems += error.problems
        else:
            unjudged += [] if goals[task.name].judged else [task]
    if not problems and len(unjudged) == len(goals):
        problems = [_undefined(task, "validation", check_metric_on(task, data, "validation")) for task in unjudged]
    if problems:
        raise ConfigError(problems)
    return goals


def judging_metrics(data: StudyData) -> dict[str, str]:
    """The name of what judges each task on validation: its metric, or ``loss`` where that is not defined there."""
    return {
        task.name: LOSS if check_metric_on(task, data, "validation").broken else task.metric.name
        for task in data.all_tasks
    }


def _goal(task: Task, data: StudyData) -> Goal:
    """A task's goal; its scale is 1 for scores and, for errors of numbers, that of the training mean."""
    found = check_metric_on(task, data, "validation")
    if (
        found.broken and (in_training := check_metric_on(task, data, "train")).broken
    ):  # other validation rows would not help
        raise ConfigError([_undefined(task, "training", in_training)])
    if found.broken:
        return Goal(higher_is_better=False, weight=0.0, judged=False)
    higher = bool(metric_for(task).higher_is_better)
    natural = task.behaviour.natural_scale and not higher and math.isfinite(found.trivial)
    return Goal(higher, scale=abs(found.trivial) if natural else 1.0)


def _undefined(task: Task, split: str, found: MetricCheck) -> Problem:
    rule = f"{found.broken} on the {split} labels ({found.reason}): take another metric, or other {split} rows"
    return Problem(f"tasks.{task.name}.metric", rule, task.metric.name)
