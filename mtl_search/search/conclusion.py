"""Conclusion: the end of a study. The best trials are run again, one is the winner, and the test split is read once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mtl_search.config import StudyConfig
from mtl_search.errors import NothingSucceededError
from mtl_search.execution.jobs import Job
from mtl_search.execution.pool import Pool
from mtl_search.models.backbones import BACKBONES
from mtl_search.models.cost import count_parameters
from mtl_search.recipe import Recipe
from mtl_search.search.baselines import Baseline
from mtl_search.search.findings import Findings, Tests
from mtl_search.search.folder import StudyFolder
from mtl_search.search.grouping import Groups
from mtl_search.search.jobs import Jobs
from mtl_search.search.outcome import Outcome, Proposal
from mtl_search.search.record import TrialRecord
from mtl_search.search.repeats import Repeats
from mtl_search.search.verdict import Judge, Verdict
from mtl_search.search.watchers import StudyWatcher
from mtl_search.training.files import write_json
from mtl_search.training.objective import Objective
from mtl_search.training.stages import Stage, finished
from mtl_search.training.workspace import Workload
from mtl_search.variants import build


@dataclass(frozen=True)
class Conclusion:
    """Ends a study.

    Attributes:
        config: The study file.
        workload: Its data and backbone.
        folder: Where it lies.
        jobs: The jobs of a fresh seed's run; 0 is the study's own.
        searched: The study's own jobs as they were while it searched.
        objective: With the baselines that count.
        baselines: By task.
        watchers: Hear of every repeat.
        groups: What task affinity proposes; empty where it was not measured.
    """

    config: StudyConfig
    workload: Workload
    folder: StudyFolder
    jobs: Callable[[int], Jobs]
    searched: Jobs
    objective: Objective
    baselines: Mapping[str, Baseline]
    watchers: Sequence[StudyWatcher]
    groups: Groups

    def reached(self, pool: Pool, trials: Sequence[TrialRecord]) -> Outcome:
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
        repeats = Repeats(self.jobs, self.config.search.repeats.runs, self.watchers)
        judge = Judge(self.objective, {task: baseline.metrics for task, baseline in self.baselines.items()})
        verdict = judge.decide(complete, self.config.search.repeats, partial(repeats.run, pool))
        winner = verdict.order[0].trial
        assert winner.recipe is not None
        *_, joint = self.jobs(0).of(winner.recipe)
        stage = replace(joint.payload, folder=self._folder_of(winner))
        self._make_sure(pool, winner, winner.recipe)
        tests = self._tests(pool, [stage, *repeats.stages.get(winner.number, [])])
        names = {task.name: task.metric.name for task in self.workload.data.tasks}
        findings = Findings(self.objective, self.baselines, verdict, tests, names, self._proposal(verdict))
        outcome = findings.outcome(stage, self._folder_of)
        write_json(self.folder.outcome_file, outcome.to_dict())
        return outcome

    def _make_sure(self, pool: Pool, winner: TrialRecord, recipe: Recipe) -> None:
        """Train the winner anew, to the same bits, where its files are damaged since."""
        *before, joint = self.searched.of(recipe)
        if joint.key == winner.job and finished(joint.payload) is None:
            pool.results([*before, replace(joint, lockstep=False)])

    def _folder_of(self, trial: TrialRecord) -> str:
        assert trial.job is not None
        return str(self.folder.trials / trial.job)

    def _proposal(self, verdict: Verdict) -> Proposal | None:
        """Another grouping of the tasks, where one is worse off than alone and affinity tells which."""
        if not verdict.worse or len(self.groups) < 2:
            return None
        alone = sum(baseline.result["parameters"] for baseline in self.baselines.values())
        shape = self.workload.data.preparation.feature_shape
        trunk = sum(count_parameters(block) for block in build(BACKBONES, self.workload.backbone).blocks(shape))
        spared = (len(self.baselines) - len(self.groups)) * trunk
        return Proposal(tuple(map(tuple, self.groups)), alone - spared)

    def _tests(self, pool: Pool, joint: Sequence[Stage]) -> Tests:
        """Metrics on test of the winner's models, the kept one first, and of the baselines' runs."""
        alone = [stage for baseline in self.baselines.values() for stage in baseline.stages]
        stages = {f"test-{s.key}": replace(s, key=f"test-{s.key}", kind="test") for s in (*joint, *alone)}
        results = dict(zip(stages, pool.results([Job(key, stage) for key, stage in stages.items()]), strict=True))
        kept, *fresh = (results[f"test-{stage.key}"]["metrics"] for stage in joint)
        singles = {
            task: tuple(results[f"test-{stage.key}"]["metrics"][task] for stage in baseline.stages)
            for task, baseline in self.baselines.items()
        }
        return Tests(kept, tuple(fresh), singles)
