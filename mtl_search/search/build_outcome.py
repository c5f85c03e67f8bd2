"""Outcome builder: selection, baselines and test metrics -> the outcome as it is kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean

from mtl_search.results.objective import Objective
from mtl_search.results.outcome import Candidate, Outcome, TaskOutcome
from mtl_search.results.selection import RepeatedTrial, Selection, Selector
from mtl_search.results.statistics import Estimate, over_rows
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.baselines import Baselines
from mtl_search.search.contenders import DEFAULT
from mtl_search.search.reliability import Reliability
from mtl_search.storage.reports import StageResult
from mtl_search.training.stages import Stage


@dataclass(frozen=True)
class TestRuns:
    """What models say on the test split.

    Attributes:
        kept: Main metric by task of the model that is kept.
        fresh: By seed, the result of the evaluation of the winner's run.
        alone: By task and seed, the same of its single-task model.
        again: Whether ``fresh`` are runs on fresh seeds; if not, the kept model's.

    A task whose metric is not defined on the test labels is missing in these results.
    """

    kept: Mapping[str, float]
    fresh: Mapping[int, StageResult]
    alone: Mapping[str, Mapping[int, StageResult]]
    again: bool

    def is_defined(self, task: str) -> bool:
        """Whether a task's metric is defined on the test labels, for every model."""
        runs = [*self.fresh.values(), *self.alone[task].values()]
        return task in self.kept and all(task in result.metrics for result in runs)

    def metric_alone(self, task: str) -> dict[int, float]:
        """Metric of a task's single-task model by seed."""
        return {seed: result.metrics[task] for seed, result in self.alone[task].items()}

    def resampled_alone(self, task: str) -> list[list[float]]:
        """Metric of a task's single-task model on each draw of rows, a list for each seed."""
        return [result.resampled[task] for result in self.alone[task].values()]


@dataclass(frozen=True)
class _TestGains:
    """What is known on test.

    Attributes:
        objective: With the baselines on test.
        improvement: Of the fresh runs; None where there were none.
        gains: The same by task.
        improvement_over_rows: Interval of the improvement over other rows.
        gains_over_rows: The same by task.
    """

    objective: Objective
    improvement: Estimate | None
    gains: Mapping[str, Estimate]
    improvement_over_rows: Estimate | None
    gains_over_rows: Mapping[str, Estimate | None]


@dataclass(frozen=True)
class OutcomeBuilder:
    """All that a study has to say at its end.

    Attributes:
        objective: On validation, with the baselines that count.
        baselines: By task, and where they come from.
        reliability: Of each task's validation rows.
        selection: What the fresh runs say.
        tests: Metrics on test.
        metric_names: Main metric by task.
    """

    objective: Objective
    baselines: Baselines
    reliability: Mapping[str, Reliability]
    selection: Selection
    tests: TestRuns
    metric_names: Mapping[str, str]

    def outcome(self, stage: Stage, folder_of: Callable[[TrialRecord], str]) -> Outcome:
        """The outcome.

        Args:
            stage: The winner's joint stage, its folder that of the kept model.
            folder_of: Folder of a complete trial's model.
        """
        winner, on_test = self.selection.winner, self._on_test()
        ran = [repeat for repeat in self.selection.order if repeat.trial.number in self.selection.improvement]
        results = [baseline.result for baseline in self.baselines.by_task.values()]
        challenger = self.selection.challenger
        return Outcome(
            number=winner.number,
            recipe=stage.recipe.to_dict(),
            folder=stage.folder,
            improvement=self.objective.improvement(winner.metrics),
            test_improvement=on_test.objective.improvement(self.tests.kept) if on_test.objective.goals else None,
            tasks={task: self._task(task, winner, on_test) for task in self.baselines.by_task},
            best_epoch=winner.best_epoch or 0,
            parameters=winner.parameters or 0,
            single_parameters=sum(result.parameters for result in results),
            multiply_adds=winner.multiply_adds or 0,
            single_multiply_adds=sum(result.multiply_adds or 0 for result in results),
            repeated=self.selection.improvement.get(winner.number),
            repeated_test=on_test.improvement,
            rows_test=on_test.improvement_over_rows,
            first_improvement=self._over_first(),
            candidates=tuple(self._candidate(repeat.trial, folder_of) for repeat in ran),
            ties=self.selection.tied,
            alike=self.selection.alike,
            reach=self.selection.reach,
            challenger=None if challenger is None else challenger.number,
        )

    def _over_first(self) -> float | None:
        """The winner's improvement over the default recipe's single-task models alone, where others count."""
        first = self.baselines.of_contender(DEFAULT)
        runs = self.selection.order[0].metrics
        chosen = {baseline.contender.name for baseline in self.baselines.by_task.values()}
        if first is None or chosen == {DEFAULT} or not self.selection.improvement or not runs:
            return None
        goals = {task: replace(goal, baseline=first[task].mean) for task, goal in self.objective.goals.items()}
        objective = replace(self.objective, goals=goals)
        return fmean(map(objective.improvement, runs.values()))

    def _on_test(self) -> _TestGains:
        """Improvement and gains on test, over trainings and over rows, of the tasks that are defined there."""
        alone = {task: self.tests.metric_alone(task) for task in self.objective.goals if self.tests.is_defined(task)}
        goals = {
            task: replace(self.objective.goals[task], baseline=fmean(runs.values())) for task, runs in alone.items()
        }
        objective = Objective(goals)
        if not any(goal.weight for goal in goals.values()):
            return _TestGains(Objective(), None, {}, None, {})
        fresh = {seed: result.metrics for seed, result in self.tests.fresh.items()}
        found = Selector(objective, alone).select([RepeatedTrial(TrialRecord(0, "complete"), fresh)])
        improvement, gains = found.improvement.get(0), found.gains
        runs, drawn = len(fresh), self._drawn_gains(objective)
        means = {task: fmean(goals[task].gain(metrics[task]) for metrics in fresh.values()) for task in goals}
        on_draws = [dict(zip(drawn, each, strict=True)) for each in zip(*drawn.values(), strict=True)]
        return _TestGains(
            objective,
            improvement if self.tests.again else None,
            gains if self.tests.again else {},
            over_rows(objective.mean(means), [objective.mean(each) for each in on_draws], runs),
            {task: over_rows(means[task], drawn[task], runs) for task in goals},
        )

    def _drawn_gains(self, objective: Objective) -> dict[str, list[float]]:
        """Per task the mean gain over the winner's runs on each draw of rows, both sides on the same rows."""
        found = {}
        for task, goal in objective.goals.items():
            joint = zip(*(result.resampled[task] for result in self.tests.fresh.values()), strict=True)
            alone = zip(*self.tests.resampled_alone(task), strict=True)
            found[task] = [
                fmean(replace(goal, baseline=fmean(own)).gain(value) for value in values)
                for values, own in zip(joint, alone, strict=True)
            ]
        return found

    def _task(self, task: str, winner: TrialRecord, on_test: _TestGains) -> TaskOutcome:
        goal, baseline = self.objective.goals[task], self.baselines.by_task[task]
        assert goal.baseline is not None
        there = on_test.objective.goals.get(task)
        return TaskOutcome(
            metric=self.metric_names[task],
            higher_is_better=goal.higher_is_better,
            validation=winner.metrics[task],
            baseline=goal.baseline,
            gain=goal.gain(winner.metrics[task]),
            test=None if there is None else self.tests.kept[task],
            test_baseline=None if there is None else there.baseline,
            test_gain=None if there is None else there.gain(self.tests.kept[task]),
            steps={name: values[task] for name, values in winner.steps.items()},
            scale=goal.scale,
            baseline_runs=tuple(baseline.metrics.values()),
            test_baseline_runs=() if there is None else tuple(self.tests.metric_alone(task).values()),
            baseline_trial=baseline.contender.trial,
            baseline_words=baseline.contender.words,
            under_trained=task in self.baselines.under_trained(),
            weight=goal.weight,
            limit=goal.limit,
            judged=goal.judged,
            standard_error=self.reliability[task].standard_error,
            labels=self.reliability[task].labels,
            repeated=self.selection.gains.get(task),
            repeated_test=on_test.gains.get(task),
            rows_test=on_test.gains_over_rows.get(task),
            worse=task in self.selection.worse,
        )

    def _candidate(self, trial: TrialRecord, folder_of: Callable[[TrialRecord], str]) -> Candidate:
        return Candidate(
            number=trial.number,
            folder=folder_of(trial),
            improvement=self.objective.improvement(trial.metrics),
            repeated=self.selection.improvement[trial.number],
            parameters=trial.parameters or 0,
            epoch_seconds=trial.epoch_seconds or 0.0,
            tied=trial.number in self.selection.tied or trial is self.selection.winner,
        )
