"""Baselines: what each task is held against: the best single-task models known, chosen and measured on different seeds.

Several ways to train single-task models contend for each task: the default recipe's, those of a schedule that was tuned
for them or that a trial came upon, and controls: the schedule of the winner itself with nothing shared. Which of them
is a task's baseline is decided by the mean over some seeds; what it comes to is measured on the fresh seeds that the
best trials are run again on. If the same runs did both, the best of several would look better than it is, for each task
anew, and the mean over many tasks would tell against the multi-task model.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from mtl_search.errors import NothingSucceededError
from mtl_search.pool.job_pool import JobPool
from mtl_search.pool.jobs import Job, JobState, Update
from mtl_search.recipe import Recipe
from mtl_search.results.objective import Objective
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.callbacks import BaselineRun, Callback, news_of
from mtl_search.search.contenders import DEFAULT, Contender, default_contender, seen_contender
from mtl_search.search.jobs import Jobs
from mtl_search.storage.reports import StageResult
from mtl_search.storage.stage_results import result_in
from mtl_search.training.stages import Stage, is_finished


@dataclass(frozen=True)
class Baseline:
    """What one task is held against.

    Attributes:
        contender: Whose models they are.
        metrics: Main validation metric by the seed of the run.
        stages: The runs' stages by seed, for the test split.
        result: Of the first run.
    """

    contender: Contender
    metrics: Mapping[int, float]
    stages: Mapping[int, Stage]
    result: StageResult

    @property
    def mean(self) -> float:
        """Mean metric over the runs."""
        return fmean(self.metrics.values())


@dataclass
class Baselines:
    """Trains, chooses and measures the baselines of a study.

    Attributes:
        jobs: The jobs of a run by its seed; 0 is the study's own.
        objective: Goals of the tasks, with or without baselines.
        choosing: Seeds that decide which contender is a task's baseline, the study's own first.
        measuring: Fresh seeds that say what a baseline comes to; none for the same as ``choosing``.
        callbacks: Are told of every model.
        by_task: What each task is held against.
        contenders: All so far.
    """

    jobs: Callable[[int], Jobs]
    objective: Objective
    choosing: Sequence[int]
    measuring: Sequence[int]
    callbacks: Callback
    by_task: dict[str, Baseline] = field(default_factory=dict)
    contenders: list[Contender] = field(default_factory=list)
    _models: dict[tuple[str, str, int], tuple[Stage, Update]] = field(default_factory=dict)
    _known: set[tuple[str, ...]] = field(default_factory=set)

    def train(self, pool: JobPool, recipe: Recipe) -> Objective:
        """Train, or find in the cache, the single-task models of the default recipe.

        Returns:
            The objective with their mean over the seeds that choose as each task's baseline.

        Raises:
            NothingSucceededError: A model of the study's own seed failed; those of other seeds that fail are left out.
        """
        self.add(pool, [default_contender(recipe)])
        firsts = {task: self._models[DEFAULT, task, self.choosing[0]][1] for task in self.objective.goals}
        failed = [f"{task}: {u.reason or u.state.value}" for task, u in firsts.items() if u.state is not JobState.DONE]
        if failed:
            raise NothingSucceededError("nothing to compare with, single-task training failed: " + "; ".join(failed))
        return self.choose()

    def add(self, pool: JobPool, contenders: Iterable[Contender]) -> bool:
        """Train the models of contenders on the seeds that choose; one whose models are known already is passed over.

        Returns:
            Whether there was a new one.
        """
        fresh = []
        for contender in contenders:
            key = self._key_of(contender)
            if key not in self._known:
                self._known.add(key)
                fresh.append(contender)
        self.contenders += fresh
        self._train(
            pool,
            [
                (contender, task, seed)
                for contender in fresh
                for task in self.objective.goals
                if contender.may_be_baseline_of(task)
                for seed in self.choosing
            ],
        )
        for contender in fresh:
            if contender.name != DEFAULT:
                self._tell_trained(contender)
        return bool(fresh)

    def _tell_trained(self, contender: Contender) -> None:
        tasks = [task for task in self.objective.goals if self._is_sound(contender, task, self.choosing)]
        metrics = {task: self._baseline(contender, task, self.choosing).mean for task in tasks}
        self.callbacks.on_contender_trained(contender, metrics, len(self.choosing))

    def try_once(self, pool: JobPool, contenders: Sequence[Contender]) -> None:
        """Train the models of many contenders on the study's own seed, and ``add`` the best one of each task."""
        wanted = [
            (contender, task, self.choosing[0])
            for contender in contenders
            for task in self.objective.goals
            if contender.may_be_baseline_of(task)
        ]
        self._train(pool, wanted)
        best: dict[str, tuple[float, Contender]] = {}
        for contender, task, seed in wanted:
            result = self._result(contender, task, seed)
            if result is None:
                continue
            score = self.objective.goals[task].signed(result.metrics[task])
            if task not in best or score > best[task][0]:
                best[task] = score, contender
        chosen = {contender.name: contender for _, contender in best.values()}
        tasks = {name: tuple(task for task, (_, each) in best.items() if each.name == name) for name in chosen}
        self.add(pool, [replace(contender, tasks=tasks[name]) for name, contender in chosen.items()])

    def choose(self) -> Objective:
        """Make the best contender of each task its baseline, by the mean over the seeds that choose.

        Returns:
            The objective with these means.
        """
        for task in self.objective.goals:
            self.by_task[task] = self._baseline(self._ranked(task)[0], task, self._sound_seeds(self.choosing))
        return self.against()

    def measure(self, pool: JobPool) -> Objective:
        """Choose each task's baseline anew, and train it over the fresh seeds.

        A contender that fails on one of them is no baseline; the task's next best one is.

        Returns:
            The objective with the means over the fresh seeds.
        """
        if not self.measuring:
            return self.choose()
        self._train(pool, [(self._default, task, seed) for task in self.objective.goals for seed in self.measuring])
        seeds = self._sound_seeds(self.measuring)
        if not seeds:
            return self.choose()
        chosen = {task: self._ranked(task) for task in self.objective.goals}
        while True:
            self._train(pool, [(ranked[0], task, seed) for task, ranked in chosen.items() for seed in seeds])
            failed = [task for task, ranked in chosen.items() if not self._is_sound(ranked[0], task, seeds)]
            if not failed:
                break
            chosen |= {task: chosen[task][1:] for task in failed}
        for task, ranked in chosen.items():
            self.by_task[task] = self._baseline(ranked[0], task, seeds)
        return self.against()

    def against(self) -> Objective:
        """The objective with what each task is held against now."""
        goals = {task: replace(goal, baseline=self.by_task[task].mean) for task, goal in self.objective.goals.items()}
        return replace(self.objective, goals=goals)

    def of_contender(self, name: str) -> Mapping[str, Baseline] | None:
        """What the tasks would be held against if one contender alone were known; None where it was not measured."""
        contender = next(contender for contender in self.contenders if contender.name == name)
        seeds = self._sound_seeds(self.measuring)
        if not seeds or not all(self._is_sound(contender, task, seeds) for task in self.objective.goals):
            return None
        return {task: self._baseline(contender, task, seeds) for task in self.objective.goals}

    def seen(self, trials: Sequence[TrialRecord]) -> list[Contender]:
        """The best single-task model of each task that a trial trained on its way, where it beats the default's.

        It was found by one run on the study's own seed.
        """
        found: dict[int, tuple[Recipe, list[str]]] = {}
        for task in self.objective.goals:
            best = self._best_seen(task, trials)
            if best is not None:
                number, recipe = best
                found.setdefault(number, (recipe, []))[1].append(task)
        return [seen_contender(number, recipe, tasks) for number, (recipe, tasks) in found.items()]

    @property
    def epoch_seconds(self) -> float:
        """Seconds of an epoch of every task's default single-task model, one after the other."""
        results = [self._result(self._default, task, self.choosing[0]) for task in self.objective.goals]
        return float(sum(result.wall_seconds / len(result.history) for result in results))

    def under_trained(self) -> dict[str, int]:
        """Tasks whose baseline was still getting better in its last epoch, on most seeds: that epoch's number."""
        found = {}
        for task, baseline in self.by_task.items():
            results = [self._result(baseline.contender, task, seed) for seed in baseline.metrics]
            last = [result.best_epoch == result.history[-1].epoch for result in results]
            if 2 * sum(last) > len(last):
                found[task] = results[0].best_epoch
        return found

    def _key_of(self, contender: Contender) -> tuple[str, ...]:
        """Which models a contender trains."""
        jobs = self.jobs(self.choosing[0])
        tasks = [task for task in self.objective.goals if contender.may_be_baseline_of(task)]
        return tuple(contender.jobs(jobs, contender.recipe, task)[-1].key for task in tasks)

    def _best_seen(self, task: str, trials: Sequence[TrialRecord]) -> tuple[int, Recipe] | None:
        """Number and recipe of the trial with the best single-task model of a task, where it beats the default's."""
        goal, jobs = self.objective.goals[task], self.jobs(self.choosing[0])
        stage, update = self._models[DEFAULT, task, self.choosing[0]]
        assert update.result is not None
        best, found, seen = goal.signed(update.result.metrics[task]), None, {stage.key}
        for trial in trials:
            if trial.recipe is None:
                continue
            stage = jobs.single(trial.recipe, task).payload
            if stage.key in seen:
                continue
            seen.add(stage.key)
            told = result_in(stage.location)  # the model itself is looked at where it would count
            if told is None or goal.signed(told.metrics[task]) <= best:
                continue
            if (result := is_finished(stage)) is not None:
                best, found = goal.signed(result.metrics[task]), (trial.number, trial.recipe)
        return found

    def _ranked(self, task: str) -> list[Contender]:
        """The contenders of a task, the best first; the default recipe's models alone may lack a seed."""
        goal = self.objective.goals[task]

        def score(contender: Contender) -> float:
            seeds = [seed for seed in self.choosing if self._result(contender, task, seed) is not None]
            return fmean(goal.signed(self._result(contender, task, seed).metrics[task]) for seed in seeds)

        sound = [
            contender
            for contender in self.contenders
            if contender.name == DEFAULT
            or (contender.may_be_baseline_of(task) and self._is_sound(contender, task, self.choosing))
        ]
        return sorted(sound, key=score, reverse=True)

    def _sound_seeds(self, seeds: Sequence[int]) -> list[int]:
        """Seeds on which the default recipe's models are sound: a seed counts for all tasks or for none."""
        tasks = self.objective.goals
        return [seed for seed in seeds if all(self._is_sound(self._default, task, [seed]) for task in tasks)]

    @property
    def _default(self) -> Contender:
        return self.contenders[0]

    def _is_sound(self, contender: Contender, task: str, seeds: Sequence[int]) -> bool:
        return all(self._result(contender, task, seed) is not None for seed in seeds)

    def _result(self, contender: Contender, task: str, seed: int) -> Any:
        model = self._models.get((contender.name, task, seed))
        return None if model is None else model[1].result

    def _baseline(self, contender: Contender, task: str, seeds: Sequence[int]) -> Baseline:
        seeds = [seed for seed in seeds if self._result(contender, task, seed) is not None]
        models = {seed: self._models[contender.name, task, seed] for seed in seeds}
        metrics = {seed: update.result.metrics[task] for seed, (_, update) in models.items() if update.result}
        first = models[seeds[0]][1].result
        assert first is not None
        return Baseline(contender, metrics, {seed: stage for seed, (stage, _) in models.items()}, first)

    def _train(self, pool: JobPool, wanted: Iterable[tuple[Contender, str, int]]) -> None:
        """Train single-task models, all side by side; those that are there are passed over."""
        of: dict[str, list[tuple[Contender, str, int]]] = {}
        needed: dict[str, Job] = {}
        models: dict[str, Job] = {}
        for contender, task, seed in wanted:
            if (contender.name, task, seed) in self._models:
                continue
            start = self.jobs(seed).start(contender.recipe).job
            *before, job = contender.jobs(self.jobs(seed), contender.recipe, task)
            needed |= {each.key: each for each in [*([start] if start else []), *before]}
            models[job.key] = job
            of.setdefault(job.key, []).append((contender, task, seed))
        if not models:
            return

        def heard(job: Job, update: Update) -> None:
            for contender, task, seed in of.get(job.key, ()):
                for event in news_of(BaselineRun(contender, task, seed), update):
                    self.callbacks.on_run(event)

        jobs = list((needed | models).values())  # those that others need come first
        for job, update in zip(jobs, pool.run(jobs, heard), strict=True):
            for contender, task, seed in of.get(job.key, ()):
                self._models[contender.name, task, seed] = job.payload, update
