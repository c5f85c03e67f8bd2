"""Baselines: the single-task models of every task over seeds, and better ones that the search came upon."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from mtl_search.errors import NothingSucceededError
from mtl_search.execution.jobs import Job, JobState, Update
from mtl_search.execution.pool import Pool
from mtl_search.recipe import Recipe
from mtl_search.search.jobs import Jobs
from mtl_search.search.record import TrialRecord
from mtl_search.search.watchers import StudyWatcher
from mtl_search.training.objective import Objective
from mtl_search.training.results import result_in
from mtl_search.training.stages import Stage, finished


@dataclass(frozen=True)
class Baseline:
    """What one task is held against.

    Attributes:
        metrics: Main validation metric of each run.
        stages: The runs' stages, for the test split.
        result: Of the first run.
        trial: The trial whose single-task part it is; None for the default recipe's.
    """

    metrics: tuple[float, ...]
    stages: tuple[Stage, ...]
    result: Mapping[str, Any]
    trial: int | None = None


@dataclass
class Baselines:
    """Trains and chooses the baselines of a study.

    Attributes:
        jobs: The jobs of a fresh seed's run; 0 is the study's own.
        objective: Goals of the tasks, with or without baselines.
        runs: Over how many seeds.
        watchers: Hear of every model.
        by_task: What was found.
    """

    jobs: Callable[[int], Jobs]
    objective: Objective
    runs: int
    watchers: Sequence[StudyWatcher]
    by_task: dict[str, Baseline] = field(default_factory=dict)

    def train(self, pool: Pool, recipe: Recipe) -> Objective:
        """Train, or find in the cache, the single-task models of a recipe.

        Returns:
            The objective with their mean as each task's baseline.

        Raises:
            NothingSucceededError: A model of the study's own seed failed; of other seeds that are left out.
        """
        tasks = tuple(self.objective.goals)
        found = self._models(pool, {task: (recipe, range(self.runs)) for task in tasks})
        firsts = {task: models[0][1] for task, models in found.items()}
        failed = [f"{task}: {u.reason or u.state.value}" for task, u in firsts.items() if u.state is not JobState.DONE]
        if failed:
            raise NothingSucceededError("nothing to compare with, single-task training failed: " + "; ".join(failed))
        # A run counts for all tasks or for none, so that what tasks have in common in a run stays together.
        whole = [run for run in range(self.runs) if all(found[task][run][1].result for task in tasks)]
        for task in tasks:
            self.by_task[task] = _baseline([found[task][run] for run in whole])
        return self._against()

    def improve(self, pool: Pool, trials: Sequence[TrialRecord]) -> Objective:
        """Take better single-task models that trials trained on their way: a searched schedule must face its like.

        The best one of each task was chosen by one run, so that run does not count: it is trained over fresh seeds, and
        replaces the default recipe's where its mean is better.

        Args:
            pool: Running.
            trials: With recipes; any state.

        Returns:
            The objective with the baselines that count in the end.
        """
        better = {task: found for task in self.objective.goals if (found := self._best_seen(task, trials)) is not None}
        fresh = range(1, self.runs + 1)
        wanted = {task: (recipe, fresh) for task, (_, recipe) in better.items()}
        models = self._models(pool, wanted, told_from=self.runs - 1)
        for task, runs in models.items():
            whole = [run for run in runs if run[1].result is not None]
            goal = self.objective.goals[task]
            if whole and len(whole) == len(runs):
                other = replace(_baseline(whole), trial=better[task][0])
                if goal.signed(fmean(other.metrics)) > goal.signed(fmean(self.by_task[task].metrics)):
                    self.by_task[task] = other
        return self._against()

    def _against(self) -> Objective:
        goals = {
            task: replace(goal, baseline=fmean(self.by_task[task].metrics))
            for task, goal in self.objective.goals.items()
        }
        return Objective(goals, self.objective.kind)

    def _best_seen(self, task: str, trials: Sequence[TrialRecord]) -> tuple[int, Recipe] | None:
        """Number and recipe of the trial with the best single-task model of a task, where it beats the default's."""
        goal, jobs = self.objective.goals[task], self.jobs(0)
        best, found = goal.signed(self.by_task[task].result["metrics"][task]), None
        seen = {self.by_task[task].stages[0].key}
        for trial in trials:
            if trial.recipe is None:
                continue
            stage: Stage = jobs.single(trial.recipe, task).payload
            if stage.key in seen:
                continue
            seen.add(stage.key)
            told = result_in(stage.home)  # the model itself is looked at where it would count
            if told is None or goal.signed(told["metrics"][task]) <= best:
                continue
            if (result := finished(stage)) is not None:
                best, found = goal.signed(result["metrics"][task]), (trial.number, trial.recipe)
        return found

    def _models(
        self, pool: Pool, wanted: Mapping[str, tuple[Recipe, Sequence[int]]], told_from: int = 0
    ) -> dict[str, list[tuple[Stage, Update]]]:
        """Single-task models by task, a list over runs each; watchers hear of runs with so much added."""
        jobs: list[Job] = []
        of: dict[str, tuple[str, int]] = {}
        needed: dict[str, Job] = {}
        for task, (recipe, runs) in wanted.items():
            for run in runs:
                start = self.jobs(run).start(recipe).job
                if start is not None:
                    needed[start.key] = start
                job = self.jobs(run).single(recipe, task)
                jobs.append(job)
                of[job.key] = (task, told_from + run)
        if not jobs:
            return {}

        def heard(job: Job, update: Update) -> None:
            if job.key not in of:
                return
            task, run = of[job.key]
            for watcher in self.watchers:
                for report in update.reports:
                    watcher.baseline_reported(task, run, report)
                if update.state.ended:
                    watcher.baseline_ended(task, run, update.result, update.reason)

        updates = pool.run([*needed.values(), *jobs], heard)[len(needed) :]
        found: dict[str, list[tuple[Stage, Update]]] = {task: [] for task in wanted}
        for job, update in zip(jobs, updates, strict=True):
            found[of[job.key][0]].append((job.payload, update))
        return found


def _baseline(runs: Sequence[tuple[Stage, Update]]) -> Baseline:
    (task,) = runs[0][0].tasks
    results = [update.result for _, update in runs if update.result is not None]
    return Baseline(tuple(result["metrics"][task] for result in results), tuple(stage for stage, _ in runs), results[0])
