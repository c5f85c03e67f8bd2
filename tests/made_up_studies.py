"""Made-up studies in the folder that a search leaves: trials in Optuna's journal, results, an outcome, affinity."""

from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from mtl_search.config.study_config import StudyConfig
from mtl_search.recipe import Component, Recipe, Schedule
from mtl_search.results.objective import Goal, Objective
from mtl_search.results.outcome import Candidate, Outcome, Proposal, TaskOutcome
from mtl_search.results.statistics import Estimate
from mtl_search.storage.files import write_json
from mtl_search.study_store.folder import StudyFolder

DISTRIBUTIONS: dict[str, Any] = {
    "sharing": CategoricalDistribution(("hard", "cross_stitch")),
    "sharing.hard.depth": IntDistribution(1, 4),
    "joint.optimizer.adamw.lr": FloatDistribution(1e-4, 1e-1, log=True),
    "fusion": CategoricalDistribution(("mean", "ties", "weighted")),
}
HARMFUL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
"""A reason of a failed trial that must not become part of a page."""


class MadeUp:
    """A study that nobody ran.

    Args:
        storage: Where it goes.
        tasks: How many.
        trials: How many; every fifth was stopped early, trial 3 failed, trial 5 went badly.
    """

    def __init__(self, storage: Path, tasks: int, trials: int) -> None:
        self.folder = StudyFolder(storage, "made_up")
        self.tasks = [f"task_{number}" for number in range(tasks)]
        self.goals = {t: Goal(bool(i % 2), 0.5 + 0.01 * i) for i, t in enumerate(self.tasks)}
        self.objective, self._draw = Objective(self.goals), np.random.default_rng(0)
        raw = {
            "name": "made_up",
            "data": {"source": {"sklearn": {"name": "iris"}}},
            "tasks": {task: {"kind": "regression", "target": task} for task in self.tasks},
            "backbone": "mlp",
            "search": {"trials": max(trials, 1)},
        }
        write_json(self.folder.config_file, StudyConfig.model_validate(raw).model_dump(mode="json"))
        study = self.folder.optuna_study("journal")
        self.complete: dict[int, float] = {}
        for number in range(trials):
            study.add_trial(self._trial(number))

    def _trial(self, number: int) -> Any:
        params = {
            name: domain.choices[int(self._draw.integers(len(domain.choices)))]
            for name, domain in DISTRIBUTIONS.items()
            if isinstance(domain, CategoricalDistribution)
        }
        params["joint.optimizer.adamw.lr"] = float(10 ** self._draw.uniform(-4, -1))
        if params["sharing"] == "hard":
            params["sharing.hard.depth"] = int(self._draw.integers(1, 5))
        made: dict[str, Any] = {"params": params, "distributions": {name: DISTRIBUTIONS[name] for name in params}}
        recipe = Recipe(
            Component(params["sharing"]), Component(params["fusion"]), Component("fixed"), Schedule(5), Schedule(9)
        ).to_dict()
        if number == 3:
            return create_trial(state=TrialState.FAIL, user_attrs={"recipe": recipe, "reason": HARMFUL}, **made)
        gains = 3 - (np.log10(params["joint.optimizer.adamw.lr"]) + 2) ** 2 + self._draw.normal(0, 2, len(self.tasks))
        gains -= 300 * (number == 5)
        metrics = {t: self._metric(t, gain) for t, gain in zip(self.tasks, gains, strict=True)}
        stopped, job = number % 5 == 4, f"job{number}"
        self._leave(job, metrics, stopped)
        notes: dict[str, Any] = {"recipe": recipe, "job": job, "worker_seconds": 20.0 + number, "parameters": 5000}
        value = self.objective.improvement(metrics)
        if stopped:
            values = {2: value}
            return create_trial(
                state=TrialState.PRUNED, value=value, intermediate_values=values, user_attrs=notes, **made
            )
        self.complete[number] = value
        notes |= {"metrics": metrics, "best_epoch": 3, "steps": self._steps(metrics), "multiply_adds": 900}
        return create_trial(value=value, user_attrs=notes, **made)

    def _metric(self, task: str, gain: float) -> float:
        goal = self.goals[task]
        assert goal.baseline is not None
        return float(goal.baseline * (1 + (1 if goal.higher_is_better else -1) * gain / 100))

    def _steps(self, metrics: dict[str, float]) -> dict[str, dict[str, float]]:
        ways = {"base": -60.0, "single": 0.0, "fused": -2.0}
        return {
            **{step: {t: self._metric(t, gain) for t in self.tasks} for step, gain in ways.items()},
            "joint": metrics,
        }

    def _leave(self, job: str, metrics: dict[str, float], stopped: bool) -> None:
        weights = [dict.fromkeys(self.tasks, 1.0 + 0.1 * epoch) if epoch else {} for epoch in range(4)]
        history = [
            {"epoch": epoch, "score": 0.0, "best_score": 0.0, "weights": each, "metrics": metrics}
            for epoch, each in enumerate(weights)
        ]
        result = {"metrics": metrics, "best_epoch": 3, "history": history, "steps": {}, "recipe": {}}
        folder = self.folder.trials / job
        write_json(folder / ("stopped.json" if stopped else "result.json"), result)
        (folder / ("stopped.safetensors" if stopped else "model.safetensors")).write_bytes(b"")

    def end(self, *, repeated: bool = True) -> "MadeUp":
        """Write outcome and affinity; with repeats the second task does worse than alone."""
        order = sorted(self.complete, key=lambda number: -self.complete[number])
        winner, number = self.complete[order[0]], order[0]
        trial = self.folder.optuna_study("journal").trials[number]
        metrics = trial.user_attrs["metrics"]
        tasks = {}
        for place, task in enumerate(self.tasks):
            gain, base = self.goals[task].gain(metrics[task]), self.goals[task].baseline or 0.0
            worse = repeated and place == 1
            fresh = around(-4.0 if worse else gain - 1) if repeated else None
            tasks[task] = TaskOutcome(
                metric="accuracy" if self.goals[task].higher_is_better else "rmse",
                higher_is_better=self.goals[task].higher_is_better,
                validation=metrics[task],
                baseline=base,
                gain=gain,
                test=metrics[task],
                test_baseline=base,
                test_gain=gain - 0.5,
                steps={step: values[task] for step, values in trial.user_attrs["steps"].items()},
                baseline_runs=(base - 0.01, base, base + 0.01) if repeated else (),
                repeated=fresh,
                worse=worse,
            )
        candidates = tuple(
            Candidate(each, "x", self.complete[each], around(self.complete[each] - 1), 5000, 1.5, place < 2)
            for place, each in enumerate(order[:3])
        )
        half = len(self.tasks) // 2
        groups = (tuple(self.tasks[: half or 1]), tuple(self.tasks[half or 1 :]))
        outcome = Outcome(
            number=number,
            recipe=trial.user_attrs["recipe"],
            folder=str(self.folder.trials / f"job{number}"),
            improvement=winner,
            test_improvement=winner - 0.5,
            tasks=tasks,
            best_epoch=3,
            parameters=5000,
            single_parameters=5000 * len(self.tasks),
            multiply_adds=900,
            single_multiply_adds=900 * len(self.tasks),
            repeated=around(winner - 1) if repeated else None,
            repeated_test=around(winner - 1.5) if repeated else None,
            candidates=candidates if repeated else (),
            ties=tuple(order[:2]) if repeated else (),
            challenger=order[1] if repeated else None,
            proposal=Proposal(groups, 10_000) if repeated else None,
        )
        write_json(self.folder.outcome_file, outcome.to_dict())
        affinity = {a: {b: 0.1 if a < b else -0.2 for b in self.tasks if b != a} for a in self.tasks}
        write_json(self.folder.affinity_file, {"cosine": {"affinity": affinity, "groups": groups}})
        return self


def around(mean: float) -> Estimate:
    return Estimate(mean, 0.5, mean - 1, mean + 1, 3)
