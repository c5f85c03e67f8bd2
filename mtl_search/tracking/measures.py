"""Names and values of what MLflow gets as metrics: of an epoch, of a trial, of a whole study.

Pure: the recorder says when, this says what.
"""

from collections.abc import Mapping

from mtl_search.results.outcome import Outcome
from mtl_search.results.statistics import Estimate
from mtl_search.results.trial_record import TrialRecord
from mtl_search.storage.reports import EpochReport

_MOST_PAIRS = 28
"""Curves of more pairs (over 8 tasks) would bury a run's other curves."""
_COSTS = {
    "time/seconds": "seconds",
    "time/fastest_epoch_seconds": "epoch_seconds",
    "time/worker_seconds": "worker_seconds",
    "memory/peak_mib": "peak_mib",
    "parameters": "parameters",
    "multiply_adds": "multiply_adds",
}


def report_metrics(report: EpochReport, metric_names: Mapping[str, str]) -> dict[str, float]:
    """What an epoch's report says."""
    return {
        "score": report.score,
        "lr": report.lr,
        "time/epoch_seconds": report.seconds,
        **{f"val/{task}/{metric_names[task]}": value for task, value in report.metrics.items()},
        **{f"val/{task}/loss": value for task, value in report.validation_loss.items()},
        **{f"train/{task}/loss": value for task, value in report.training_loss.items()},
        **{f"weight/{task}": value for task, value in report.weights.items()},
        **_cosines(report.cosines),
    }


def trial_metrics(trial: TrialRecord, metric_names: Mapping[str, str]) -> dict[str, float]:
    """What a trial came to and what it cost."""
    values = {f"val_best/{task}/{metric_names[task]}": value for task, value in trial.metrics.items()}
    values |= {} if trial.value is None else {"objective": trial.value}
    costs = {name: getattr(trial, part) for name, part in _COSTS.items()}
    return values | {name: value for name, value in costs.items() if value is not None}


def outcome_metrics(outcome: Outcome) -> dict[str, float]:
    """What a study found."""
    metrics: dict[str, float | None] = {
        "improvement": outcome.improvement,
        "test/improvement": outcome.test_improvement,
        "optimism": outcome.optimism,
        "parameters": outcome.parameters,
        **_estimate("repeated/improvement", outcome.repeated),
        **_estimate("repeated/test/improvement", outcome.repeated_test),
        **_interval("rows/test/improvement", outcome.rows_test),
        "repeated/improvement/over_default_recipe": outcome.first_improvement,
    }
    for name, task in outcome.tasks.items():
        metrics |= {
            f"gain/{name}": task.gain,
            f"test/gain/{name}": task.test_gain,
            f"val_best/{name}/{task.metric}": task.validation,
            f"baseline/{name}/{task.metric}": task.baseline,
            f"test/{name}/{task.metric}": task.test,
            f"test/baseline/{name}/{task.metric}": task.test_baseline,
            **_estimate(f"repeated/gain/{name}", task.repeated),
            **_estimate(f"repeated/test/gain/{name}", task.repeated_test),
            **_interval(f"rows/test/gain/{name}", task.rows_test),
        }
    return {name: value for name, value in metrics.items() if value is not None}


def outcome_tags(outcome: Outcome) -> dict[str, object]:
    """What a study found, for filtering."""
    return {
        "best_trial": outcome.number,
        "alarm": ", ".join(outcome.worse) or ("not tested" if outcome.untested else "none"),
        "challenger_trial": "none" if outcome.challenger is None else outcome.challenger,
        "ties": ", ".join(map(str, outcome.ties)) or "none",
        **{f"baseline.{name}": task.baseline_words for name, task in outcome.tasks.items() if task.baseline_words},
    }


def _estimate(name: str, found: Estimate | None) -> dict[str, float | None]:
    if found is None:
        return {}
    return {name: found.mean, f"{name}/std": found.std, f"{name}/low": found.low, f"{name}/high": found.high}


def _interval(name: str, found: Estimate | None) -> dict[str, float | None]:
    return {} if found is None else {f"{name}/low": found.low, f"{name}/high": found.high}


def _cosines(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean cosines between the tasks' gradients: of all pairs together, and of each where there are few."""
    pairs = {f"cosine/{a}/{b}": value for a, others in found.items() for b, value in others.items()}
    if not pairs:
        return {}
    mean = {"cosine/mean": sum(pairs.values()) / len(pairs)}
    return mean if len(pairs) > _MOST_PAIRS else {**mean, **pairs}
