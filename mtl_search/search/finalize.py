"""Conclusion: the end of a study.

The best trials and their controls are run on fresh seeds, one trial is the winner, and the test split is read once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mtl_search.config.study_config import StudyConfig
from mtl_search.errors import NothingSucceededError
from mtl_search.models.backbones import BACKBONES
from mtl_search.models.cost import count_parameters
from mtl_search.pool.job_pool import JobPool
from mtl_search.pool.jobs import Job
from mtl_search.recipe import Recipe
from mtl_search.results.objective import Objective
from mtl_search.results.outcome import Outcome, Proposal
from mtl_search.results.selection import RepeatedTrial, Selection, Selector
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.baselines import Baselines
from mtl_search.search.build_outcome import OutcomeBuilder, TestRuns
from mtl_search.search.callbacks import Callback
from mtl_search.search.contenders import DEFAULT, controls_of
from mtl_search.search.grouping import TaskGroups
from mtl_search.search.jobs import Jobs
from mtl_search.search.reliability import Reliability
from mtl_search.search.repeats import Repeats
from mtl_search.storage.files import write_json
from mtl_search.study_store.folder import StudyFolder
from mtl_search.training.metrics import judging_metrics
from mtl_search.training.stages import Stage, evaluation_of, is_finished
from mtl_search.training.workspace import Workload
from mtl_search.variants.building import build

_DRAWS = 400
"""How often the rows of the test split are drawn, for what other rows would say."""


@dataclass(frozen=True)
class Finalizer:
    """Ends a study.

    Attributes:
        config: The study file.
        workload: Its data and backbone.
        folder: Where it lies.
        jobs: The jobs of a run by its seed; 0 is the study's own.
        baselines: Trained, on the seeds that choose at least.
        reliability: By task.
        callbacks: Are told of every repeat and of every single-task model.
        groups: What task affinity proposes; empty where it was not measured.
    """

    config: StudyConfig
    workload: Workload
    folder: StudyFolder
    jobs: Callable[[int], Jobs]
    baselines: Baselines
    reliability: dict[str, Reliability]
    callbacks: Callback
    groups: TaskGroups

    def reached(self, pool: JobPool, trials: Sequence[TrialRecord]) -> Outcome:
        """Run the best again, pick the winner, read the test split for it and its baselines, write the outcome.

        Args:
            pool: Running.
            trials: Of the study, without those that nobody trained.

        Raises:
            NothingSucceededError: No trial is complete.
            StudyError: No worker group can work any more.
        """
        complete = [trial for trial in trials if trial.state == "complete"]
        if not complete:
            reasons = {trial.reason or trial.state for trial in trials}
            raise NothingSucceededError("no trial succeeded: " + "; ".join(sorted(reasons)))
        self.baselines.add(pool, self.baselines.seen(trials))
        self.baselines.measure(pool)
        repeats = Repeats(self.jobs, self.baselines.measuring, self.callbacks)
        runs = self._selector.decide(complete, self.config.search.repeats, partial(repeats.run, pool))
        selection = self._held_against_controls(pool, *runs)
        winner = selection.winner
        assert winner.recipe is not None
        *_, joint = self.jobs(0).of_tried(winner.recipe)
        stage = replace(joint.payload, folder=self._folder_of(winner))
        self._make_sure(pool, winner, winner.recipe)
        tests = self._tests(pool, stage, repeats.stages.get(winner.number, {}))
        names = judging_metrics(self.workload.data)
        builder = OutcomeBuilder(self._objective, self.baselines, self.reliability, selection, tests, names)
        outcome = replace(builder.outcome(stage, self._folder_of), proposal=self._proposal(selection))
        write_json(self.folder.outcome_file, outcome.to_dict())
        return outcome

    @property
    def _objective(self) -> Objective:
        return self.baselines.against()

    @property
    def _selector(self) -> Selector:
        fresh = set(self.baselines.measuring)
        alone = {
            task: {seed: value for seed, value in baseline.metrics.items() if seed in fresh}
            for task, baseline in self.baselines.by_task.items()
        }
        return Selector(self._objective, alone)

    def _held_against_controls(
        self, pool: JobPool, repeats: list[RepeatedTrial], others: list[TrialRecord]
    ) -> Selection:
        """The selection against the best single-task models known, those with the winner's own schedule among them.

        Another baseline may make another trial the winner; then that one's controls are trained too.
        """
        selection = self._selector.select(repeats, others)
        while selection.improvement and self.baselines.measuring:
            rivals = [selection.winner, *([selection.challenger] if selection.challenger is not None else [])]
            if not self.baselines.add(pool, [control for trial in rivals for control in controls_of(trial)]):
                break
            self.baselines.measure(pool)
            selection = self._selector.select(repeats, others)
        self._tell_weak()
        return selection

    def _tell_weak(self) -> None:
        """Say where other single-task models than the default recipe's are what a task is held against."""
        first = self.baselines.of_contender(DEFAULT)
        said = []
        for task, baseline in self.baselines.by_task.items():
            if baseline.contender.name != DEFAULT and first is not None:
                goal = replace(self._objective.goals[task], baseline=first[task].mean)
                said.append(f"{task} {goal.gain(baseline.mean):+.2f} % ({baseline.contender.words})")
        if said:
            shown = "; ".join(said[:4]) + (f"; and {len(said) - 4} more tasks" if len(said) > 4 else "")
            text = f"better single-task models than the default recipe's: {shown}. Every trial is judged by these"
            self.callbacks.on_note(text)

    def _make_sure(self, pool: JobPool, winner: TrialRecord, recipe: Recipe) -> None:
        """Train the winner anew, to the same bits, where its files are damaged since."""
        *before, joint = self.jobs(0).of_tried(recipe)
        if joint.key == winner.job and is_finished(joint.payload) is None:
            pool.results([*before, replace(joint, lockstep=False)])

    def _folder_of(self, trial: TrialRecord) -> str:
        assert trial.job is not None
        return str(self.folder.trials / trial.job)

    def _proposal(self, selection: Selection) -> Proposal | None:
        """Another grouping of the tasks, where one is worse off than alone and affinity tells which."""
        if not selection.worse or len(self.groups) < 2:
            return None
        baselines = self.baselines.by_task.values()
        alone = sum(baseline.result.parameters for baseline in baselines)
        shape = self.workload.data.preparation.feature_shape
        trunk = sum(count_parameters(block) for block in build(BACKBONES, self.workload.backbone).blocks(shape))
        spared = (len(baselines) - len(self.groups)) * trunk
        return Proposal(tuple(map(tuple, self.groups)), alone - spared)

    def _tests(self, pool: JobPool, kept: Stage, fresh: dict[int, Stage]) -> TestRuns:
        """What the winner's models, the kept one and those of the fresh runs, and the baselines say on test."""
        alone = {task: baseline.stages for task, baseline in self.baselines.by_task.items()}
        drawn = [*(fresh.values() or [kept]), *(stage for runs in alone.values() for stage in runs.values())]
        stages = {stage.key: evaluation_of(stage, "test", _DRAWS) for stage in drawn}
        stages.setdefault(kept.key, evaluation_of(kept, "test", 0))
        jobs = [Job(stage.key, stage) for stage in stages.values()]
        found = dict(zip(stages, pool.results(jobs), strict=True))
        return TestRuns(
            kept=found[kept.key].metrics,
            fresh={seed: found[stage.key] for seed, stage in fresh.items()} or {0: found[kept.key]},
            alone={task: {seed: found[stage.key] for seed, stage in runs.items()} for task, runs in alone.items()},
            again=bool(fresh),
        )
