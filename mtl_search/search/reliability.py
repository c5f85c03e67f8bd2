"""Reliability: how far the validation rows tell each task's metric, and how much its gain counts because of it.

A task with a handful of validation labels has gains of tens of percent by chance alone. In a plain mean over tasks two
such rows decide which recipe wins. So each task's gain is weighed by its reliability: the part of its variance that is
true, if the tasks' true gains differ by as much as they usually do.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mtl_search.config.search_config import EQUAL, RELIABILITY
from mtl_search.pool.job_pool import JobPool
from mtl_search.pool.jobs import Job
from mtl_search.results.objective import FLOOR, Goal, Objective
from mtl_search.training.stages import Stage, evaluation_of

DRAWS = 200
"""How often rows are drawn for a standard error."""
BETWEEN_TASKS = 5.0
"""Standard deviation of true gains between tasks, in percent; before a search there is nothing to measure it on."""
_CLEAR = 3.0
"""A baseline that is fewer standard errors than this away from zero bears no ratio."""
_LIMIT = 100.0
"""Largest gain in percent that counts where a baseline bears no ratio."""
_LIGHT = 0.25
"""A task that counts less than this part of the heaviest one is worth a word."""
_MOST_NAMED = 6


@dataclass(frozen=True)
class Reliability:
    """What the validation rows tell of one task.

    Attributes:
        standard_error: Of the single-task model's metric, over draws of rows; None where no draw has a metric.
        noise: Standard deviation in percent of a gain between two models that are equally good, over draws of rows.
        weight: How much the task's gain counts, from 0 to 1 unless the user says otherwise.
        limit: Largest gain in percent that counts; None for no limit.
        labels: On validation.
    """

    standard_error: float | None
    noise: float
    weight: float
    limit: float | None
    labels: int


def reliability_of(
    goal: Goal,
    resampled: Sequence[Sequence[float]],
    labels: int,
    wanted: str | Mapping[str, float],
    task: str,
) -> Reliability:
    """Judge how reliable a task's gain is.

    Args:
        goal: Of the task, with a baseline.
        resampled: Metric of one or two runs of the task's single-task model, each over the same draws of rows.
        labels: On validation.
        wanted: As in ``search.objective_weights``.
        task: The task's name.
    """
    if not goal.judged:
        return Reliability(None, math.inf, 0.0, None, labels)
    assert goal.baseline is not None
    divisor = max(abs(goal.baseline), FLOOR * goal.scale)
    first, second = np.array(resampled[0]), np.array(resampled[-1])
    error, noise = _deviation(first), _deviation(first - second if len(resampled) > 1 else first)
    # Two models that agree on all of a few rows may still differ on the next one.
    in_percent = math.inf if noise is None or not labels else math.hypot(100 * noise / divisor, 100 / labels)
    weight = 1.0
    if wanted == RELIABILITY:
        weight = BETWEEN_TASKS**2 / (BETWEEN_TASKS**2 + in_percent**2)
    elif isinstance(wanted, Mapping):
        weight = wanted.get(task, 1.0)
    unclear = error is None or abs(goal.baseline) < max(_CLEAR * error, FLOOR * goal.scale)
    return Reliability(error, in_percent, weight, _LIMIT if unclear and wanted != EQUAL else None, labels)


def measure_reliability(
    pool: JobPool,
    objective: Objective,
    models: Mapping[str, Sequence[Stage]],
    labels: Mapping[str, int],
    wanted: str | Mapping[str, float],
) -> dict[str, Reliability]:
    """Judge how reliable each task's gain is, by two runs of its single-task model on draws of the validation rows.

    Args:
        pool: Running.
        objective: With baselines.
        models: By task, stages that have left a single-task model each; the first two count.
        labels: On validation by task.
        wanted: As in ``search.objective_weights``.

    Raises:
        JobError: A model could not be judged.
    """
    stages = {
        task: [evaluation_of(stage, "validation", DRAWS) for stage in runs[:2]] if objective.goals[task].judged else []
        for task, runs in models.items()
    }
    jobs = [Job(stage.key, stage) for runs in stages.values() for stage in runs]
    found = dict(zip((job.key for job in jobs), pool.results(jobs), strict=True))
    return {
        task: reliability_of(
            objective.goals[task],
            [found[stage.key].resampled[task] for stage in runs],
            labels[task],
            wanted,
            task,
        )
        for task, runs in stages.items()
    }


def baseline_notes(under_trained: Mapping[str, int], tasks: Mapping[str, Reliability]) -> list[str]:
    """What a user should know of the single-task models before the search.

    Args:
        under_trained: Tasks whose models had their best epoch last, and that epoch's number.
        tasks: How reliable each task's gain is.
    """
    notes = []
    if under_trained:
        epochs = ", ".join(map(str, sorted(set(under_trained.values()))))
        notes.append(
            f"{_named(under_trained)}: the best epoch of the single-task models is their last ({epochs}); they may be "
            "under-trained: raise single_task.epochs"
        )
    heaviest = max((found.weight for found in tasks.values()), default=0.0)
    light = {task: found for task, found in tasks.items() if 0 < found.weight < _LIGHT * heaviest}
    if light:
        said = [
            f"{task} (weight {found.weight:.2g}, {found.labels} validation labels)" for task, found in light.items()
        ]
        notes.append(
            f"{_listed(said)} count little in the objective: on so few validation rows a gain is mostly chance "
            "(search.objective_weights changes that)"
        )
    return notes


def _named(tasks: Mapping[str, Any]) -> str:
    return ("task " if len(tasks) == 1 else "tasks ") + _listed(list(tasks))


def _listed(words: Sequence[str]) -> str:
    shown = ", ".join(words[:_MOST_NAMED])
    return shown + (f" and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else "")


def weight_objective(objective: Objective, tasks: Mapping[str, Reliability]) -> Objective:
    """The objective with each task's weight and limit; with equal weights where no task is reliable at all."""
    if not any(tasks[task].weight for task, goal in objective.goals.items() if goal.judged):
        tasks = {task: replace(found, weight=1.0) for task, found in tasks.items()}
    goals = {
        task: replace(goal, weight=tasks[task].weight, limit=tasks[task].limit) if goal.judged else goal
        for task, goal in objective.goals.items()
    }
    return replace(objective, goals=goals)


def _deviation(values: np.ndarray[Any, Any]) -> float | None:
    """Standard deviation of what is defined; None where fewer than half of the draws are."""
    known = values[np.isfinite(values)]
    return float(known.std()) if 2 * len(known) > len(values) and len(known) > 1 else None
