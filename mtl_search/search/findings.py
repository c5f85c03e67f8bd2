"""Findings: verdict and test metrics -> the outcome as it is kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from mtl_search.search.baselines import Baseline
from mtl_search.search.outcome import Candidate, Outcome, Proposal, TaskOutcome
from mtl_search.search.record import TrialRecord
from mtl_search.search.statistics import Estimate
from mtl_search.search.verdict import Judge, Rerun, Verdict
from mtl_search.training.objective import Objective
from mtl_search.training.stages import Stage


@dataclass(frozen=True)
class Tests:
    """Main metric by task on the test split.

    Attributes:
        kept: Of the model that is kept.
        fresh: Of each fresh run of its recipe.
        singles: Of each run of a task's single-task model.
    """

    kept: Mapping[str, float]
    fresh: Sequence[Mapping[str, float]]
    singles: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Findings:
    """All that a study has to say at its end.

    Attributes:
        objective: On validation, with the baselines that count.
        baselines: By task.
        verdict: What the fresh runs say.
        tests: Metrics on test.
        metric_names: Main metric by task.
        proposal: Another grouping.
    """

    objective: Objective
    baselines: Mapping[str, Baseline]
    verdict: Verdict
    tests: Tests
    metric_names: Mapping[str, str]
    proposal: Proposal | None

    def outcome(self, stage: Stage, folder_of: Callable[[TrialRecord], str]) -> Outcome:
        """The outcome.

        Args:
            stage: The winner's joint stage, its folder that of the kept model.
            folder_of: Folder of a complete trial's model.
        """
        winner = self.verdict.order[0].trial
        improvement, gains, of_kept = self._on_test()
        ran = tuple(rerun for rerun in self.verdict.order if rerun.trial.number in self.verdict.improvement)
        results = [baseline.result for baseline in self.baselines.values()]
        return Outcome(
            number=winner.number,
            recipe=stage.recipe.to_dict(),
            folder=stage.folder,
            improvement=self.objective.improvement(winner.metrics),
            test_improvement=of_kept.improvement(self.tests.kept),
            tasks={task: self._task(task, winner, of_kept, gains.get(task)) for task in self.baselines},
            best_epoch=winner.best_epoch or 0,
            parameters=winner.parameters or 0,
            single_parameters=sum(result["parameters"] for result in results),
            multiply_adds=winner.multiply_adds or 0,
            single_multiply_adds=sum(result["multiply_adds"] for result in results),
            repeated=self.verdict.improvement.get(winner.number),
            repeated_test=improvement,
            candidates=tuple(self._candidate(rerun.trial, folder_of) for rerun in ran),
            ties=(*self.verdict.tied, *self.verdict.alike),
            challenger=self._challenger(winner, ran),
            proposal=self.proposal,
        )

    def _on_test(self) -> tuple[Estimate | None, Mapping[str, Estimate], Objective]:
        """Improvement and gains of the fresh runs on test, and the objective there."""
        goals = {
            task: replace(goal, baseline=fmean(self.tests.singles[task])) for task, goal in self.objective.goals.items()
        }
        objective = Objective(goals, self.objective.kind)
        found = Judge(objective, self.tests.singles).verdict([Rerun(TrialRecord(0, "complete"), self.tests.fresh)])
        return found.improvement.get(0), found.gains, objective

    def _task(self, task: str, winner: TrialRecord, on_test: Objective, repeated_test: Estimate | None) -> TaskOutcome:
        goal, baseline = self.objective.goals[task], self.baselines[task]
        assert goal.baseline is not None
        return TaskOutcome(
            metric=self.metric_names[task],
            higher_is_better=goal.higher_is_better,
            validation=winner.metrics[task],
            baseline=goal.baseline,
            gain=goal.gain(winner.metrics[task]),
            test=self.tests.kept[task],
            test_baseline=fmean(self.tests.singles[task]),
            test_gain=on_test.goals[task].gain(self.tests.kept[task]),
            steps={name: values[task] for name, values in winner.steps.items()},
            scale=goal.scale,
            baseline_runs=baseline.metrics,
            test_baseline_runs=tuple(self.tests.singles[task]),
            baseline_trial=baseline.trial,
            repeated=self.verdict.gains.get(task),
            repeated_test=repeated_test,
            worse=task in self.verdict.worse,
        )

    def _candidate(self, trial: TrialRecord, folder_of: Callable[[TrialRecord], str]) -> Candidate:
        return Candidate(
            number=trial.number,
            folder=folder_of(trial),
            improvement=self.objective.improvement(trial.metrics),
            repeated=self.verdict.improvement[trial.number],
            parameters=trial.parameters or 0,
            epoch_seconds=trial.epoch_seconds or 0.0,
            tied=trial.number in self.verdict.tied or trial is self.verdict.order[0].trial,
        )

    def _challenger(self, winner: TrialRecord, ran: Sequence[Rerun]) -> int | None:
        """The cheapest of those that are tied with the winner, where it is cheaper than that."""
        tied = [rerun.trial for rerun in ran if rerun.trial.number in self.verdict.tied]
        cheapest = min(tied, key=lambda trial: trial.price, default=winner)
        return cheapest.number if cheapest.cheaper_than(winner) else None
