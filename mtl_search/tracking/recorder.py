"""The recorder: hears what happens in a study and says it to the tracker, run by run.

One parent run for the study; nested in it ``baseline-<task>`` for the single-task models and
``trial-<number>`` for trials.
"""

import json
from collections.abc import Mapping
from typing import Any

from mtl_search.config import StudyConfig
from mtl_search.recipe import Recipe
from mtl_search.search.grouping import AffinityMatrix, Groups
from mtl_search.search.outcome import Outcome
from mtl_search.search.record import TrialRecord
from mtl_search.tracking.tracker import Status, Tracker

_STATUS: Mapping[str, Status] = {
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
_MOST_PAIRS = 28
"""Curves of more pairs (over 8 tasks) would bury a run's other curves."""


class Recorder:
    """Writes a study to MLflow (a ``search.watchers.StudyWatcher``).

    Args:
        tracker: Started.
        config: The study file.
        metric_names: Main metric by task, source tasks among them.
    """

    def __init__(self, tracker: Tracker, config: StudyConfig, metric_names: Mapping[str, str]) -> None:
        self._tracker, self._config, self._metrics = tracker, config, metric_names
        self._logged: dict[str, set[int]] = {}

    def study_started(self, description: Mapping[str, Any], study_file: str) -> None:
        """Open the parent run.

        Args:
            description: ``StudyData.describe()``.
            study_file: The configuration as YAML, kept with the run.
        """
        config = self._config
        params = {
            "backbone": config.backbone.name,
            **{f"backbone.{name}": value for name, value in config.backbone.params.items()},
            "sampler": config.search.sampler.name,
            "stopper": config.search.stopper.name,
            "objective": config.search.objective,
            "trials": config.search.trials,
            "workers": config.resources.workers,
            "seed": config.seed,
            **{f"rows.{split}": sum(rows.values()) for split, rows in description["rows"].items()},
            **{f"task.{name}": f"{task.kind} ({self._metrics[name]})" for name, task in config.tasks.items()},
        }
        self._tracker.start_study(params, {"kind": "study"})
        self._tracker.log_text(None, "study.yaml", study_file)

    def pool_started(self, groups: int) -> None:
        """Note how many trials run side by side."""
        self._tracker.set_tags(None, {"worker_groups": groups})

    def base_reported(self, name: str, report: dict[str, Any]) -> None:
        """Log an epoch of the base's training."""
        self._start_base(name)
        self._log("base", report)

    def base_ended(self, name: str, result: dict[str, Any] | None, reason: str) -> None:
        """Log the epochs not yet told and close the run."""
        self._start_base(name)
        for report in (result or {}).get("history", []):
            self._log("base", report)
        if result is None:
            self._tracker.end_run("base", "FAILED", {"reason": reason})
        else:
            tags = {"best_epoch": result["best_epoch"], "cached": "cached" in result}
            self._tracker.end_run("base", "FINISHED", tags)

    def baseline_reported(self, task: str, run: int, report: dict[str, Any]) -> None:
        """Log an epoch of a single-task model."""
        self._log(self._start_baseline(task, run), report)

    def baseline_ended(self, task: str, run: int, result: dict[str, Any] | None, reason: str) -> None:
        """Log the epochs not yet told (those of a model found in the cache) and close the run."""
        key = _baseline_key(task, run)
        if result is not None and result.get("cached") and self._tracker.started(key):
            self._tracker.end_run(key, "FINISHED")
            return
        self._start_baseline(task, run)
        for report in (result or {}).get("history", []):
            self._log(key, report)
        if result is None:
            self._tracker.end_run(key, "FAILED", {"reason": reason})
            return
        tags = {"best_epoch": result["best_epoch"], "parameters": result["parameters"], "cached": "cached" in result}
        self._tracker.log_metrics(key, {f"val_best/{task}/{self._metrics[task]}": result["metrics"][task]}, 0)
        self._tracker.end_run(key, "FINISHED", tags)

    def repeat_started(self, number: int, run: int, recipe: Recipe) -> None:
        """Open a repeat's run."""
        tags = {"kind": "repeat", "of_trial": number}
        self._tracker.start_run(_repeat_key(number, run), _repeat_key(number, run), recipe.flat(), tags)

    def repeat_reported(self, number: int, run: int, report: dict[str, Any]) -> None:
        """Log an epoch of a repeat."""
        self._log(_repeat_key(number, run), report)

    def repeat_ended(self, number: int, run: int, result: dict[str, Any] | None, reason: str) -> None:
        """Close a repeat's run."""
        if result is None:
            self._tracker.end_run(_repeat_key(number, run), "FAILED", {"reason": reason})
        else:
            self._tracker.end_run(_repeat_key(number, run), "FINISHED", {"best_epoch": result["best_epoch"]})

    def affinity_measured(self, kind: str, affinity: AffinityMatrix, groups: Groups) -> None:
        """Write it down; ``figures`` draws it."""
        plain = {"affinity": affinity, "groups": groups}
        self._tracker.log_text(None, f"affinity_{kind}.json", json.dumps(plain, indent=1))

    def trial_started(self, number: int, recipe: Recipe) -> None:
        """Open a trial's run with its recipe as parameters."""
        params = {**recipe.flat(), "seed": self._config.seed, "recipe_key": recipe.key}
        tags = {
            "kind": "trial",
            "state": "RUNNING",
            "sharing": recipe.sharing.name,
            "fusion": recipe.fusion.name,
            "weighting": recipe.weighting.name,
            "base": recipe.base.name,
            "transfer": recipe.transfer.name,
            "alignment": recipe.alignment.name,
        }
        self._tracker.start_run(f"trial-{number}", f"trial-{number:03d}", params, tags)

    def trial_reported(self, number: int, report: dict[str, Any]) -> None:
        """Log an epoch of a trial."""
        self._log(f"trial-{number}", report)

    def trial_ended(self, trial: TrialRecord) -> None:
        """Log what a trial came to and close its run."""
        key = f"trial-{trial.number}"
        values = {f"val_best/{task}/{self._metrics[task]}": value for task, value in trial.metrics.items()}
        values |= {} if trial.value is None else {"objective": trial.value}
        costs = {"seconds": trial.seconds, "parameters": trial.parameters, "multiply_adds": trial.multiply_adds}
        values |= {name: value for name, value in costs.items() if value is not None}
        if values:
            self._tracker.log_metrics(key, values, trial.best_epoch or 0)
        for number, (name, metrics) in enumerate(trial.steps.items()):
            of_task = {f"{task}/{self._metrics[task]}": value for task, value in metrics.items()}
            self._tracker.log_metrics(key, {f"path/{place}": value for place, value in of_task.items()}, number)
            if name == "fused":
                self._tracker.log_metrics(key, {f"fused/{place}": value for place, value in of_task.items()}, 0)
        tags: dict[str, object] = {"state": trial.state.upper()}
        for name in ("reason", "best_epoch", "duplicate_of", "retry_of"):
            if getattr(trial, name) not in (None, ""):
                tags[name] = getattr(trial, name)
        self._tracker.end_run(key, _STATUS[trial.state], tags)

    def study_ended(self, outcome: Outcome) -> None:
        """Close the parent run with what was found."""
        metrics = {"improvement": outcome.improvement, "test/improvement": outcome.test_improvement}
        for name, task in outcome.tasks.items():
            metrics[f"gain/{name}"] = task["gain"]
            metrics[f"test/gain/{name}"] = task["test_gain"]
            metrics[f"val_best/{name}/{task['metric']}"] = task["validation"]
            metrics[f"baseline/{name}/{task['metric']}"] = task["baseline"]
            metrics[f"test/{name}/{task['metric']}"] = task["test"]
            metrics[f"test/baseline/{name}/{task['metric']}"] = task["test_baseline"]
        tags = {"best_trial": outcome.number, "mlflow.note.content": outcome.to_markdown()}
        self._tracker.set_tags(f"trial-{outcome.number}", {"best": True})
        self._tracker.end_study("FINISHED", metrics, tags)

    def _start_base(self, name: str) -> None:
        if "base" not in self._logged:
            self._logged["base"] = set()
            self._tracker.start_run("base", f"base-{name}", {"base": name}, {"kind": "base"})

    def _start_baseline(self, task: str, run: int) -> str:
        key = _baseline_key(task, run)
        if key not in self._logged:
            self._logged[key] = set()
            self._tracker.start_run(key, key, {"task": task, "run": run}, {"kind": "baseline"})
        return key

    def _log(self, key: str, report: Mapping[str, Any]) -> None:
        """Log one epoch, once."""
        epochs = self._logged.setdefault(key, set())
        if report["epoch"] in epochs:
            return
        epochs.add(report["epoch"])
        values = {
            "score": report["score"],
            "lr": report["lr"],
            "time/epoch_seconds": report["seconds"],
            **{f"val/{task}/{self._metrics[task]}": value for task, value in report["metrics"].items()},
            **{f"val/{task}/loss": value for task, value in report["validation_loss"].items()},
            **{f"train/{task}/loss": value for task, value in report["training_loss"].items()},
            **{f"weight/{task}": value for task, value in report["weights"].items()},
            **_cosines(report["cosines"]),
        }
        self._tracker.log_metrics(key, values, report["epoch"])


def _baseline_key(task: str, run: int) -> str:
    return f"baseline-{task}" if not run else f"baseline-{task}-{run}"


def _repeat_key(number: int, run: int) -> str:
    return f"repeat-{number}-{run}"


def _cosines(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean cosines between the tasks' gradients: of all pairs together, and of each where there are few."""
    pairs = {f"cosine/{a}/{b}": value for a, others in found.items() for b, value in others.items()}
    if not pairs:
        return {}
    mean = {"cosine/mean": sum(pairs.values()) / len(pairs)}
    return mean if len(pairs) > _MOST_PAIRS else {**mean, **pairs}
