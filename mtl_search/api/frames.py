"""Frames: a study's trials, baselines and tasks as data frames of pandas."""

from collections.abc import Sequence
from statistics import stdev
from typing import Any

import pandas as pd

from mtl_search.analysis.overview import Overview
from mtl_search.config.search_config import MEAN_IMPROVEMENT
from mtl_search.results.outcome import Outcome
from mtl_search.results.statistics import Estimate

_FIGURES = (
    *("best_epoch", "parameters", "multiply_adds", "seconds", "epoch_seconds", "worker_seconds", "peak_mib"),
    *("duplicate_of", "reason"),
)


def trials_frame(overview: Overview) -> pd.DataFrame:
    """A row for every trial that was begun, by its number.

    Args:
        overview: The study. Once it has ended, improvement is over the final baselines.

    Returns:
        ``state``, ``value`` (the objective), ``improvement`` in percent; ``metrics.TASK`` on validation at the best
        epoch and, of an ended study, ``gains.TASK`` in percent; costs; the recipe's columns as in ``Recipe.flat``.
    """
    config, outcome = overview.config, overview.outcome
    begun = [record for record in overview.records if record.state != "waiting"]
    epochs = {point.trial: point.epoch for point in overview.points}
    judged = outcome is not None or config.search.kind == MEAN_IMPROVEMENT
    nothing, rows = float("nan"), []
    for record in begun:
        number, metrics = record.number, overview.metrics.get(record.number, {})
        row: dict[str, Any] = {"state": record.state, "value": nothing if record.value is None else record.value}
        row["improvement"] = overview.improvements.get(number, nothing) if judged else nothing
        row |= {f"metrics.{task}": metrics.get(task, nothing) for task in config.tasks}
        if outcome is not None:
            gains = outcome.objective.gains(metrics) if metrics else {}
            row |= {f"gains.{task}": gains.get(task, nothing) for task in config.tasks}
        row |= {name: getattr(record, name) for name in _FIGURES}
        if record.best_epoch is None:
            row["best_epoch"] = epochs.get(number)
        rows.append(row | ({} if record.recipe is None else record.recipe.flat()))
    index = pd.Index([record.number for record in begun], name="trial")
    return pd.DataFrame(rows, index=index)


def baselines_frame(outcome: Outcome) -> pd.DataFrame:
    """The single-task models that count, by task: whose schedule, mean and standard deviation over seeds, weight.

    Figures on test are NaN where the metric is not defined on the test labels; so they are in ``tasks_frame``.
    """
    rows = {}
    for name, task in outcome.tasks.items():
        runs = task.baseline_runs or (task.baseline,)
        rows[name] = {
            "metric": task.metric,
            "higher_is_better": task.higher_is_better,
            "runs": len(runs),
            "schedule": task.baseline_words,
            "validation": task.baseline,
            "validation_std": _std(runs),
            "standard_error": _figure(task.standard_error),
            "weight": task.weight,
            "test": _figure(task.test_baseline),
            "test_std": _std(task.test_baseline_runs),
        }
    return _by_task(rows)


def tasks_frame(outcome: Outcome) -> pd.DataFrame:
    """The best multi-task model, by task: metrics, gains over the single-task model in percent, intervals, alarm."""
    rows = {}
    for name, task in outcome.tasks.items():
        row = {"metric": task.metric, "validation": task.validation, "gain": task.gain}
        row |= {"test": _figure(task.test), "test_gain": _figure(task.test_gain)}
        for part in ("repeated", "repeated_test", "rows_test"):
            row |= _ends(part, getattr(task, part))
        rows[name] = row | {"worse": task.worse}
    return _by_task(rows)


def _figure(value: float | None) -> float:
    """A figure; NaN where there is none."""
    return float("nan") if value is None else value


def _ends(name: str, estimate: Estimate | None) -> dict[str, float]:
    """Mean and interval of fresh runs; NaN where there were none."""
    ends = [None] * 3 if estimate is None else [estimate.mean, estimate.low, estimate.high]
    keys = (name, f"{name}_low", f"{name}_high")
    return {key: float("nan") if end is None else end for key, end in zip(keys, ends, strict=True)}


def _by_task(rows: dict[str, dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows.values()), index=pd.Index(list(rows), name="task"))


def _std(runs: Sequence[float]) -> float:
    return stdev(runs) if len(runs) > 1 else float("nan")
