"""The recorder: hears what happens in a study and says it to the tracker, run by run.

One parent run for the study; nested in it a run for the base, each single-task model, each trial and each repeat.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mtl_search.analysis.pareto import Point
from mtl_search.config.search_config import MEAN_IMPROVEMENT
from mtl_search.config.study_config import StudyConfig
from mtl_search.display.recipe_words import varying_parameters
from mtl_search.results.outcome import Outcome
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.callbacks import (
    BaselineRun,
    BaseRun,
    Callback,
    EpochEnded,
    RepeatRun,
    Run,
    RunEnded,
    RunEvent,
    RunStarted,
    TrialEnded,
    TrialRun,
)
from mtl_search.search.contenders import Contender
from mtl_search.search.grouping import AffinityMatrix, TaskGroups
from mtl_search.search.reliability import Reliability
from mtl_search.space.search_space import SearchSpace
from mtl_search.storage.reports import EpochReport, StageResult
from mtl_search.tracking.description import describe
from mtl_search.tracking.measures import outcome_metrics, outcome_tags, report_metrics, trial_metrics
from mtl_search.tracking.naming import baseline_key, recipe_name, recipe_tags, repeat_key, trial_key
from mtl_search.tracking.tracker import Status, Tracker

_STATUS: Mapping[str, Status] = {
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}


class Recorder(Callback):
    """Writes a study to MLflow (a ``search.callbacks.Callback``).

    Args:
        tracker: Started.
        config: The study file.
        metric_names: Main metric by task, source tasks among them.
        space: What is searched: runs are named after what varies in it.
    """

    def __init__(
        self, tracker: Tracker, config: StudyConfig, metric_names: Mapping[str, str], space: SearchSpace | None = None
    ) -> None:
        self._tracker, self._config, self._metrics, self._space = tracker, config, metric_names, space
        self._searched = varying_parameters(space.extreme_recipes()) if space is not None else frozenset()
        self._data: Mapping[str, Any] = {"rows": {}}
        self._logged: dict[str, set[int]] = {}
        self._told: set[str] = set()
        self._improvement: dict[str, float] = {}
        self._best: dict[str, tuple[Mapping[str, float], int]] = {}
        self._judged: dict[str, tuple[Mapping[str, float], int]] = {}

    def study_started(
        self, description: Mapping[str, Any], texts: Mapping[str, str], tags: Mapping[str, object] | None = None
    ) -> None:
        """Open the parent run.

        Args:
            description: ``StudyData.describe()``.
            texts: Files to keep with the run, e.g. the study file, by name.
            tags: Where the code comes from.
        """
        config, self._data = self._config, description
        params = {
            "backbone": config.backbone.name,
            **{f"backbone.{name}": value for name, value in config.backbone.params.items()},
            "sampler": config.search.sampler.name,
            "stopper": config.search.stopper.name,
            "objective": config.search.objective,
            "trials": config.search.budget,
            "workers": config.resources.workers,
            "seed": config.seed,
            **{f"rows.{split}": sum(rows.values()) for split, rows in description["rows"].items()},
            **{f"task.{name}": f"{task.kind} ({self._metrics[name]})" for name, task in config.tasks.items()},
        }
        note = describe(config, self._metrics, description, self._space)
        self._tracker.start_study(params, {"kind": "study", "mlflow.note.content": note, **(tags or {})})
        for name, text in texts.items():
            self._tracker.log_text(None, name, text)

    def on_pool_start(self, groups: int) -> None:
        """Note how many trials run side by side."""
        self._tracker.set_tags(None, {"worker_groups": groups})

    def on_run(self, event: RunEvent) -> None:
        """Open a run, log an epoch of it, or log what it came to and close it."""
        match event:
            case RunStarted(TrialRun(number), recipe):
                params = {**recipe.flat(), "seed": self._config.seed, "recipe_key": recipe.key}
                tags = {"kind": "trial", "state": "RUNNING", **recipe_tags(recipe)}
                name = f"{number} {recipe_name(recipe, self._searched)}"
                self._tracker.start_run(trial_key(number), name, params, tags)
            case RunStarted(RepeatRun(number, seed), recipe):
                name = f"{number} again, seed {seed}: {recipe_name(recipe, self._searched)}"
                tags = {"kind": "repeat", "of_trial": number, "seed": seed, **recipe_tags(recipe)}
                self._start(repeat_key(number, seed), name, {**recipe.flat(), "recipe_key": recipe.key}, tags)
            case EpochEnded(run, report):
                self._log(self._key_of(run), report, judged=isinstance(run, TrialRun | RepeatRun))
            case RunEnded(run, result, reason):
                self._end_run(run, result, reason)
            case TrialEnded(trial):
                self._end_trial(trial)

    def _key_of(self, run: Run) -> str:
        """The tracker's key of a run; that of a base or a single-task model is open from here on."""
        match run:
            case TrialRun(number):
                return trial_key(number)
            case RepeatRun(number, seed):
                return repeat_key(number, seed)
            case BaseRun(name):
                self._start("base", f"base-{name}", {"base": name}, {"kind": "base"})
                return "base"
            case BaselineRun(contender, task, seed):
                return self._start_baseline(contender, task, seed)

    def _end_run(self, run: BaseRun | BaselineRun | RepeatRun, result: StageResult | None, reason: str) -> None:
        """Log the epochs not yet told (those of a model found in the cache), and what the run came to; close it."""
        key = self._key_of(run)
        if result is None:
            self._end(key, None, reason)
            return
        for report in result.history:
            self._log(key, report, judged=isinstance(run, RepeatRun))
        match run:
            case BaselineRun(_, task, _):
                best = {f"val_best/{task}/{self._metrics[task]}": result.metrics[task]}
                self._log_result(key, {**best, "parameters": result.parameters}, result)
            case RepeatRun():
                best = {f"val_best/{task}/{self._metrics[task]}": value for task, value in result.metrics.items()}
                if key in self._improvement:
                    best["improvement"] = self._improvement[key]
                self._log_result(key, best, result)
                self._judged[key] = result.metrics, result.best_epoch
        self._end(key, result, reason)

    def _end_trial(self, trial: TrialRecord) -> None:
        """Log what a trial came to and close its run."""
        key, known = trial_key(trial.number), self._improvement
        if trial.value is not None and self._config.search.kind == MEAN_IMPROVEMENT:
            known.setdefault(key, trial.value)  # of a trial whose epochs nobody told: it took over another one's end
        if trial.value is not None and key in self._best:
            self._judged[key] = self._best[key]
        best = {"improvement": known[key]} if trial.value is not None and key in known else {}
        values = trial_metrics(trial, self._metrics) | best
        if values:
            self._tracker.log_metrics(key, values, trial.best_epoch or 0)
        for number, (name, metrics) in enumerate(trial.steps.items()):
            of_task = {f"{task}/{self._metrics[task]}": value for task, value in metrics.items()}
            self._tracker.log_metrics(key, {f"path/{place}": value for place, value in of_task.items()}, number)
            if name == "fused":
                self._tracker.log_metrics(key, {f"fused/{place}": value for place, value in of_task.items()}, 0)
        tags: dict[str, object] = {"state": trial.state.upper(), **({"best": False} if trial.metrics else {})}
        for name in ("reason", "best_epoch", "duplicate_of", "retry_of"):
            if getattr(trial, name) not in (None, ""):
                tags[name] = getattr(trial, name)
        self._tracker.end_run(key, _STATUS[trial.state], tags)
        self._logged.pop(key, None)

    def on_reliability_measured(self, tasks: Mapping[str, Reliability]) -> None:
        """Log how far the validation rows tell each task's metric, and how much its gain counts."""
        for name, found in tasks.items():
            values = {f"baseline/{name}/standard_error": found.standard_error, f"objective/weight/{name}": found.weight}
            known = {key: value for key, value in values.items() if value is not None}
            self._tracker.log_metrics(None, known, 0)

    def on_affinity_measured(self, kind: str, affinity: AffinityMatrix, groups: TaskGroups) -> None:
        """Write it down; ``figures`` draws it."""
        plain = {"affinity": affinity, "groups": groups}
        self._tracker.log_text(None, f"affinity_{kind}.json", json.dumps(plain, indent=1))

    def study_left(self, trials: Sequence[TrialRecord]) -> None:
        """Say how far a study came that ends without an outcome; who ends it closes the parent run."""
        note = describe(self._config, self._metrics, self._data, self._space, trials)
        self._tracker.set_tags(None, {"mlflow.note.content": note})

    def study_ended(self, outcome: Outcome, trials: Sequence[TrialRecord], points: Iterable[Point] = ()) -> None:
        """Close the parent run with what was found.

        Args:
            outcome: What was found.
            trials: All of the study; judged anew where other baselines count in the end than during the search.
            points: The best epochs of those whose models are there, those stopped early among them.
        """
        later = time.time_ns() // 1_000_000 + 1  # of two points at one step MLflow shows the later one
        self._judged |= {trial_key(t.number): (t.metrics, t.best_epoch or 0) for t in trials if t.metrics}
        self._judged |= {trial_key(point.trial): (point.metrics, point.epoch) for point in points}
        told = self._tracker.last_told("improvement")
        for key, (metrics, epoch) in self._judged.items():
            final = outcome.objective.improvement(metrics)
            if told.get(key) != final:
                self._tracker.log_metrics(key, {"improvement": final}, epoch, later)
        winner = trial_key(outcome.number)
        for key in {winner, *(key for key, best in self._tracker.last_tagged("best").items() if best)}:
            self._tracker.set_tags(key, {"best": key == winner})  # all other trials have ended with False
        note = describe(self._config, self._metrics, self._data, self._space, trials, outcome)
        self._tracker.log_text(None, "description.md", note)  # the tag is cut where there are very many tasks
        tags = {"mlflow.note.content": note, **outcome_tags(outcome)}
        self._tracker.end_study("FINISHED", outcome_metrics(outcome), tags)

    def _start_baseline(self, contender: Contender, task: str, seed: int) -> str:
        key = baseline_key(contender, task, seed)
        name = f"baseline-{task}" + (f", seed {seed}" if seed else "")
        if contender.name:
            name += f" ({contender.words})"
        kind = "control" if contender.is_control else "baseline"
        tags = {"kind": kind, "task": task, "schedule": contender.words}
        self._start(key, name, {"task": task, "run": seed}, tags)
        return key

    def _start(self, key: str, name: str, params: Mapping[str, object], tags: Mapping[str, object]) -> None:
        """Open the run of a base, a baseline or a repeat, once; a resumed study leaves alone what was told to its end.

        Whoever was killed before that end left an unknown part unsaid, so all is said again.
        """
        if key not in self._logged and key not in self._told:
            if self._tracker.ended(key):
                self._told.add(key)
                return
            self._logged[key] = set()
            self._tracker.start_run(key, name, params, tags)

    def _log_result(self, key: str, values: Mapping[str, float], result: StageResult) -> None:
        if key not in self._told:
            self._tracker.log_metrics(key, values, result.best_epoch)

    def _end(self, key: str, result: StageResult | None, reason: str) -> None:
        """Close the run of a base, a baseline or a repeat."""
        if key in self._told:
            return
        if result is None:
            self._tracker.end_run(key, "FAILED", {"state": "FAILED", "reason": reason})
            return
        tags = {"state": "COMPLETE", "best_epoch": result.best_epoch, "cached": result.cached}
        self._tracker.end_run(key, "FINISHED", tags)

    def _log(self, key: str, report: EpochReport, *, judged: bool = False) -> None:
        """Log one epoch, once; of what is judged against baselines the improvement too."""
        epochs = self._logged.setdefault(key, set())
        if key in self._told or report.epoch in epochs:
            return
        epochs.add(report.epoch)
        values = report_metrics(report, self._metrics)
        if judged and report.improvement is not None:
            values["val/improvement"] = report.improvement
            if report.score == report.best_score:
                self._improvement[key] = report.improvement
                self._best[key] = report.metrics, report.epoch
        self._tracker.log_metrics(key, values, report.epoch)
