"""The study: from a configuration and its workload to the best multi-task model and what it was measured against.

Starts the pool, has the single-task models made, lets Tune and Optuna search, and reads the test split once, for the
winner. Everything that trains is a job of the pool.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import optuna

from mtl_search.config.study_config import StudyConfig
from mtl_search.errors import NothingSucceededError
from mtl_search.models.sharing import SHARINGS
from mtl_search.pool.job_pool import JobPool
from mtl_search.pool.jobs import Job, JobState, Update
from mtl_search.recipe import Component, Recipe, seed_from
from mtl_search.results.objective import Objective
from mtl_search.results.outcome import Outcome
from mtl_search.results.trial_record import TrialRecord, records_of
from mtl_search.search.baselines import Baselines
from mtl_search.search.callbacks import BaseRun, Callback, news_of
from mtl_search.search.clock import Clock, seconds_of_ending
from mtl_search.search.contenders import tuned_contenders
from mtl_search.search.driver_group import DriverGroup
from mtl_search.search.finalize import Finalizer
from mtl_search.search.grouping import TaskGroups, affinity_job, awaited_affinities, group_tasks, mean_cosines
from mtl_search.search.jobs import Jobs
from mtl_search.search.load_trials import TrialLoader
from mtl_search.search.proposals import Proposals
from mtl_search.search.reliability import Reliability, baseline_notes, measure_reliability, weight_objective
from mtl_search.search.requeue import prepare_study
from mtl_search.search.runtime import Runtime, Session, Work
from mtl_search.search.samplers import NO_BRANCHES, SAMPLERS
from mtl_search.search.searcher import ANY_NUMBER, OptunaSearcher
from mtl_search.search.stoppers import STOPPERS
from mtl_search.search.trial_runner import PoolTrialRunner
from mtl_search.space.search_space import SearchSpace
from mtl_search.storage.files import RESULT_FILE
from mtl_search.storage.stage_results import results_in
from mtl_search.study_store.folder import StudyFolder
from mtl_search.training.canonical import Canonical
from mtl_search.training.metrics import task_goals
from mtl_search.training.pairings import Pairs
from mtl_search.training.workspace import Workload
from mtl_search.transfer.bases.base import Fetch, no_models
from mtl_search.variants.building import build, variant

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyInputs:
    """What a study is made of.

    Attributes:
        config: The study file.
        space: Its search space.
        workload: Its data, backbone and base.
        fetch: Gives the trunk of an earlier model.
    """

    config: StudyConfig
    space: SearchSpace
    workload: Workload
    fetch: Fetch = no_models


class Study:
    """One search from its baselines to its outcome.

    Args:
        inputs: What it is made of.
        folder: Where it lies.
        callbacks: Are told of everything.
        runtime: What it runs on.
        drivers: This driver among others on the study; None where it is alone.
        taken: Whether another driver has taken the study over: what is left running is that one's to close.
    """

    def __init__(
        self,
        inputs: StudyInputs,
        folder: StudyFolder,
        callbacks: Callback,
        runtime: Runtime,
        drivers: DriverGroup | None = None,
        taken: Callable[[], bool] = lambda: False,
    ) -> None:
        config, workload = inputs.config, inputs.workload
        self._config, self._space, self._workload, self._folder = config, inputs.space, workload, folder
        self._callbacks, self._drivers, self._taken = callbacks, drivers, taken
        self._tasks = tuple(config.tasks)
        self._runtime, self._fetch, self._by_run = runtime, inputs.fetch, dict[int, Jobs]()
        self._objective = Objective(task_goals(workload.data), config.search.kind)
        self._groups: dict[str, TaskGroups] = {}
        self._measured: dict[str, TaskGroups] = {}
        search = config.search
        choosing = range(search.baseline_seeds)
        measuring = range(search.baseline_seeds, search.baseline_seeds + search.repeats.runs)
        self._baselines = Baselines(self._jobs, self._objective, choosing, measuring, self._callbacks)
        self._reliability: dict[str, Reliability] = {}

    def run(self) -> Outcome:
        """Search until the trials or the time are used up, run the best again, then measure the winner.

        Of several drivers one does what comes after the search, and all return what it found.

        Raises:
            NothingSucceededError: Every baseline or every trial failed.
            StudyError: No worker group can work.
        """
        search = self._config.search
        clock = Clock(search.seconds, self._folder.clock_file(self._driver))
        try:
            taking_up = TrialLoader(self._folder, search)
            # Busy at once are at most: a trial each, or before that a baseline each.
            useful = max(search.most_trials or ANY_NUMBER, len(self._tasks) * search.baseline_seeds)
            work = Work(self._config, self._workload, self._folder, useful, self._driver)
            with self._runtime(work) as session:
                pool = session.pool
                self._callbacks.on_pool_start(session.groups)
                study = taking_up.log_trials(self._callbacks)
                del taking_up  # it has the record of every trial
                default = self._space.default().recipe
                self._learn_base(pool, default)
                self._train_baselines(pool, default)
                self._measure_affinity(pool)
                self._search(study, session, clock)
                trials = records_of(study.get_trials(deepcopy=False))
                if self._drivers is not None and not self._drivers.wait_for_turn(trials):
                    return Outcome.from_dict(self._folder.read_outcome() or {})
                self._tell_cosines(trials)
                return Finalizer(
                    self._config,
                    self._workload,
                    self._folder,
                    self._jobs,
                    self._baselines,
                    self._reliability,
                    self._callbacks,
                    self._groups.get("cosine") or self._measured.get("cosine", []),
                ).reached(pool, trials)
        finally:
            clock.save()

    @property
    def _driver(self) -> str:
        return "" if self._drivers is None else self._drivers.name

    def _jobs(self, run: int = 0) -> Jobs:
        """The jobs of a fresh seed's run; 0 is the study's own."""
        if run not in self._by_run:
            self._by_run[run] = Jobs(self._workload, self._folder, self._fetch, run)
        jobs = self._by_run[run]
        jobs.objective, jobs.groups = self._objective, self._groups
        return jobs

    def _learn_base(self, pool: JobPool, recipe: Recipe) -> None:
        """Train the base of the default recipe, where it is learned."""
        job, name = self._jobs().start(recipe).job, recipe.base.name
        if job is None:
            return

        def heard(_: Job, update: Update) -> None:
            for event in news_of(BaseRun(name), update):
                self._callbacks.on_run(event)

        (update,) = pool.run([job], heard)
        if update.state is not JobState.DONE:
            raise NothingSucceededError(f"no base to start from, {name} failed: {update.reason or update.state.value}")

    def _train_baselines(self, pool: JobPool, default: Recipe) -> None:
        """Train the single-task models that trials are held against, and see how far their metrics can be told."""
        search = self._config.search
        self._baselines.train(pool, default)
        if search.baseline.tune:
            self._baselines.try_once(pool, tuned_contenders(self._space, self._config.seed, search.baseline.tune))
        objective, baselines = self._baselines.choose(), self._baselines.by_task
        models = {task: list(baseline.stages.values()) for task, baseline in baselines.items()}
        splits = self._workload.data.splits["validation"]
        labels = {task.name: int(splits[task.dataset].masks[task.name].sum()) for task in self._workload.data.tasks}
        self._reliability = measure_reliability(pool, objective, models, labels, search.objective_weights)
        self._objective = self._baselines.objective = weight_objective(objective, self._reliability)
        self._callbacks.on_reliability_measured(self._reliability)
        for note in baseline_notes(self._baselines.under_trained(), self._reliability):
            self._callbacks.on_note(note)

    def _measure_affinity(self, pool: JobPool) -> None:
        """Train the plain recipe jointly and measure on the way, where a sharing of the space waits for affinity."""
        for kind in awaited_affinities(self._space):
            *before, joint = self._jobs().of_tried(
                replace(self._space.plain().recipe, sharing=Component(next(iter(SHARINGS))))
            )
            job = affinity_job(kind, joint, self._folder.trials)
            *_, result = pool.results([*before, job])
            self._groups[kind] = group_tasks(self._tasks, result.affinity)
            self._callbacks.on_affinity_measured(kind, result.affinity, self._groups[kind])

    def _search(self, study: optuna.Study, session: Session, clock: Clock) -> None:
        """Run trials over what is left of the budget."""
        search = self._config.search
        past = len(study.get_trials(deepcopy=False))
        study.sampler = build(SAMPLERS, search.sampler).build(
            seed_from(self._config.seed, "sampler", past, *([self._driver] if self._driver else []))
        )
        references, alone = [self._space.default(), self._space.plain()][: search.trials], self._drivers is None
        canonical = Canonical(self._workload, self._groups, self._space.default().recipe.single_task)
        branches = variant(SAMPLERS, search.sampler.name, "search.sampler") not in NO_BRANCHES
        proposals = Proposals(self._space, canonical, branches=branches)
        prepare_study(study, references, self._callbacks, alone=alone, proposals=proposals)
        pool = session.pool

        def has_time() -> bool:
            ending = partial(self._ending, max(1, pool.size))
            return search.seconds is None or clock.fits_another(study.get_trials(deepcopy=False), ending)

        runner = PoolTrialRunner(pool, self._jobs(), Pairs(self._workload), search.objectives, has_time)
        most = search.most_trials or ANY_NUMBER
        searcher = OptunaSearcher(study, proposals, most, runner, self._callbacks, self._drivers)
        if searcher.open:
            longest = max(self._space.largest("joint.epochs"), 1)
            try:
                session.run_trials(searcher, build(STOPPERS, search.stopper).build(longest))
            finally:
                if not self._taken():
                    searcher.interrupt()
        pool.check()
        searcher.await_others()

    def _ending(self, groups: int, longest: float) -> float:
        """Seconds of what follows the search, where its longest trial took so long."""
        epochs = self._space.largest("single_task.epochs"), self._space.largest("joint.epochs")
        return seconds_of_ending(longest, self._baselines.epoch_seconds, epochs, groups, self._config.search)

    def _tell_cosines(self, trials: Sequence[TrialRecord]) -> None:
        """Task affinity as the trials saw it on their way, where none was measured before them."""
        if "cosine" in self._groups:
            return
        jobs = dict.fromkeys(trial.job for trial in trials if trial.job)
        results = results_in([(self._folder.trials / job, RESULT_FILE, "") for job in jobs])
        if found := mean_cosines(result.history for result in results if result is not None):
            self._measured["cosine"] = group_tasks(self._tasks, found)
            self._callbacks.on_affinity_measured("cosine", found, self._measured["cosine"])
