"""The study: from a configuration and its workload to the best multi-task model and what it was measured against.

Starts the pool, has the single-task models made, lets Tune and Optuna search, and reads the test split once, for the
winner. Everything that trains is a job of the pool.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
import ray
from optuna.trial import FrozenTrial, TrialState
from ray import tune
from ray.tune.error import TuneError

from mtl_search.config import StudyConfig
from mtl_search.errors import NothingSucceededError
from mtl_search.execution.cluster import Capacity, start_ray
from mtl_search.execution.jobs import Job, JobState, Update
from mtl_search.execution.pool import Pool, running
from mtl_search.models.sharing import SHARINGS
from mtl_search.recipe import Component, Recipe, seed_from
from mtl_search.search.folder import StudyFolder
from mtl_search.search.grouping import Groups, affinity_job, grouped, mean_cosines, waiting
from mtl_search.search.jobs import Jobs
from mtl_search.search.outcome import Outcome
from mtl_search.search.record import REFUSED, TrialRecord
from mtl_search.search.samplers import SAMPLERS
from mtl_search.search.searcher import OptunaSearcher, prepare_study
from mtl_search.search.stoppers import STOPPERS
from mtl_search.search.trainable import Follower
from mtl_search.search.watchers import StudyWatcher
from mtl_search.space import SearchSpace
from mtl_search.training.files import RESULT_FILE, read_json, write_json
from mtl_search.training.objective import Objective
from mtl_search.training.pairs import Pairs
from mtl_search.training.stages import Stage
from mtl_search.training.workspace import Workload
from mtl_search.transfer.bases.base import Fetch, no_models
from mtl_search.variants import build

_log = logging.getLogger(__name__)


class Study:
    """One search from its baselines to its outcome.

    Args:
        config: The study file.
        space: Its search space.
        workload: Its data, backbone and base.
        folder: Where it lies.
        watchers: Hear of everything.
        fetch: Gives the trunk of an earlier model.
    """

    def __init__(
        self,
        config: StudyConfig,
        space: SearchSpace,
        workload: Workload,
        folder: StudyFolder,
        watchers: Sequence[StudyWatcher],
        fetch: Fetch = no_models,
    ) -> None:
        self._config, self._space, self._workload = config, space, workload
        self._folder, self._watchers = folder, list(watchers)
        self._tasks = tuple(config.tasks)
        self._jobs = Jobs(workload, folder, fetch)
        self._pairs = Pairs(workload)
        self._groups: dict[str, Groups] = {}
        self._jobs.groups = self._groups

    def run(self) -> Outcome:
        """Search until the trials are used up, then measure the winner.

        Raises:
            NothingSucceededError: Every baseline or every trial failed.
            StudyError: No worker group can work.
        """
        was_connected = ray.is_initialized()
        try:
            capacity = start_ray(self._config.resources)
            pool = Pool(self._workload, self._config.resources, capacity.groups, self._folder.ray, self._config.name)
            with running(pool):
                for watcher in self._watchers:
                    watcher.pool_started(capacity.groups)
                baselines = self._baselines(pool)
                self._measure_affinity(pool)
                study = self._search(pool, capacity)
                return self._conclude(pool, study, baselines)
        finally:
            if not was_connected:
                ray.shutdown()

    def _baselines(self, pool: Pool) -> dict[str, dict[str, Any]]:
        """Train, or find in the cache, the single-task model of every task under the default recipe."""
        recipe = self._space.default().recipe
        self._learn_base(pool, recipe)
        jobs = self._jobs.singles(recipe)

        def heard(job: Job, update: Update) -> None:
            (task,) = job.payload.tasks
            for report in update.reports:
                for watcher in self._watchers:
                    watcher.baseline_reported(task, 0, report)
            if update.state.ended:
                for watcher in self._watchers:
                    watcher.baseline_ended(task, 0, update.result, update.reason)

        updates = pool.run(jobs, heard)
        failed = [
            f"{job.payload.tasks[0]}: {update.reason or update.state.value}"
            for job, update in zip(jobs, updates, strict=True)
            if update.state is not JobState.DONE
        ]
        if failed:
            raise NothingSucceededError("nothing to compare with, single-task training failed: " + "; ".join(failed))
        results = {
            task: update.result for task, update in zip(self._tasks, updates, strict=True) if update.result is not None
        }
        goals = {
            task: replace(goal, baseline=results[task]["metrics"][task])
            for task, goal in self._jobs.objective.goals.items()
        }
        self._jobs.objective = Objective(goals, self._config.search.objective)
        return results

    def _learn_base(self, pool: Pool, recipe: Recipe) -> None:
        """Train the base of the default recipe, where it is learned."""
        job, name = self._jobs.start(recipe).job, recipe.base.name
        if job is None:
            return

        def heard(_: Job, update: Update) -> None:
            for watcher in self._watchers:
                for report in update.reports:
                    watcher.base_reported(name, report)
                if update.state.ended:
                    watcher.base_ended(name, update.result, update.reason)

        (update,) = pool.run([job], heard)
        if update.state is not JobState.DONE:
            raise NothingSucceededError(f"no base to start from, {name} failed: {update.reason or update.state.value}")

    def _measure_affinity(self, pool: Pool) -> None:
        """Train the plain recipe jointly and measure on the way, where a sharing of the space waits for affinity."""
        for kind in waiting(self._space):
            *before, joint = self._jobs.of(replace(self._space.plain().recipe, sharing=Component(next(iter(SHARINGS)))))
            job = affinity_job(kind, joint, self._folder.trials)
            *_, result = pool.results([*before, job])
            self._groups[kind] = grouped(self._tasks, result["affinity"])
            for watcher in self._watchers:
                watcher.affinity_measured(kind, result["affinity"], self._groups[kind])

    def _search(self, pool: Pool, capacity: Capacity) -> optuna.Study:
        """Run Tune over what is left of the budget."""
        search = self._config.search
        study = self._folder.optuna_study(search.storage)
        past = len(study.get_trials(deepcopy=False))
        study.sampler = build(SAMPLERS, search.sampler).build(seed_from(self._config.seed, "sampler", past))
        prepare_study(study, [self._space.default(), self._space.plain()][: search.trials], self._watchers)
        searcher = OptunaSearcher(
            study,
            self._space,
            search.trials,
            lambda recipe: pool.submit(self._jobs.of(recipe)),
            pool.drop,
            list(self._watchers),
            self._pairs.refusal,
        )
        if searcher.left:
            try:
                self._tuner(searcher, capacity, pool).fit()
            except TuneError:
                pool.check()  # where the pool is the reason, say so
                raise
            finally:
                searcher.interrupt()
        pool.check()
        return study

    def _tuner(self, searcher: OptunaSearcher, capacity: Capacity, pool: Pool) -> tune.Tuner:
        longest = max(self._space.largest("joint.epochs"), 1)
        return tune.Tuner(
            tune.with_resources(tune.with_parameters(Follower, mailbox=pool.mailbox), {"cpu": capacity.trial_cpus}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=build(STOPPERS, self._config.search.stopper).build(longest),
                num_samples=searcher.left,
                max_concurrent_trials=capacity.groups,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(self._folder.ray),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=3),
            ),
        )

    def _conclude(self, pool: Pool, study: optuna.Study, baselines: Mapping[str, dict[str, Any]]) -> Outcome:
        """Pick the winner on validation, read the test split for it and its baselines, write the outcome."""
        complete = [t for t in study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE]
        if not complete:
            tried = (t for t in study.get_trials(deepcopy=False) if REFUSED not in t.user_attrs)
            reasons = {str(t.user_attrs.get("reason", t.state.name)) for t in tried}
            raise NothingSucceededError("no trial succeeded: " + "; ".join(sorted(reasons)))
        self._tell_cosines(complete)
        best = max(complete, key=lambda t: (t.value, -t.number))
        *_, joint = self._jobs.of(Recipe.from_dict(best.user_attrs["recipe"]))
        test = self._test_metrics(pool, joint.payload)
        names = {task.name: task.metric.name for task in self._workload.data.tasks}
        outcome = Outcome.of(TrialRecord.of(best), joint.payload, names, self._jobs.objective, baselines, test)
        write_json(self._folder.outcome_file, outcome.to_dict())
        return outcome

    def _tell_cosines(self, trials: Sequence[FrozenTrial]) -> None:
        """Task affinity as the trials saw it on their way, where none was measured before them."""
        if "cosine" in self._groups:
            return
        results = (self._folder.trials / t.user_attrs["job"] / RESULT_FILE for t in trials)
        found = mean_cosines(read_json(path)["history"] for path in results if path.exists())
        if found:
            for watcher in self._watchers:
                watcher.affinity_measured("cosine", found, grouped(self._tasks, found))

    def _test_metrics(self, pool: Pool, stage: Stage) -> dict[str, dict[str, float]]:
        """Test metrics of the winner (``joint``) and of each task's single-task model (``single``)."""
        stages = [stage, *(job.payload for job in self._jobs.singles(self._space.default().recipe))]
        jobs = [Job(f"test-{s.key}", Stage(f"test-{s.key}", "test", s.tasks, s.recipe, s.folder)) for s in stages]
        joint, *singles = pool.results(jobs)
        return {
            "joint": joint["metrics"],
            "single": {task: value for result in singles for task, value in result["metrics"].items()},
        }
