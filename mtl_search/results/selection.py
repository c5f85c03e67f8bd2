"""The verdict: runs of the best trials and of single-task models on the same seeds -> winner, intervals, ties, alarm.

Pure arithmetic on metrics; ``conclusion`` has the runs made, ``outcome`` keeps what is found.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from mtl_search.config.search_config import RepeatsConfig
from mtl_search.results.objective import FLOOR, Goal, Objective
from mtl_search.results.statistics import Estimate, Spread, estimate, reach_of_one, tied, worse
from mtl_search.results.trial_record import TrialRecord

Metrics = Mapping[str, float]
"""Main metric by task."""


@dataclass(frozen=True)
class RepeatedTrial:
    """A trial and its fresh runs.

    Attributes:
        trial: Complete.
        metrics: On validation, by the seed of each run that ended well.
        failed: How many runs did not.
    """

    trial: TrialRecord
    metrics: Mapping[int, Metrics] = field(default_factory=dict)
    failed: int = 0


@dataclass(frozen=True)
class Selection:
    """What the runs say.

    Attributes:
        order: The trials that were run again, the winner first, then those without a failed run by their mean.
        improvement: By trial number: improvement over the baselines in percent.
        gains: Of the winner by task: gain over its baseline in percent.
        tied: Numbers of trials run again that cannot be told from the winner.
        alike: Numbers of the other trials that cannot, by their one run in the search.
        reach: How far below the winner's mean a single run may lie and still be one of those, in units of the score;
            None where nothing tells how runs differ.
        worse: Tasks of the winner that do worse than alone, with confidence.
    """

    order: tuple[RepeatedTrial, ...]
    improvement: Mapping[int, Estimate] = field(default_factory=dict)
    gains: Mapping[str, Estimate] = field(default_factory=dict)
    tied: tuple[int, ...] = ()
    alike: tuple[int, ...] = ()
    reach: float | None = None
    worse: tuple[str, ...] = ()

    @property
    def winner(self) -> TrialRecord:
        """The trial that won."""
        return self.order[0].trial

    @property
    def challenger(self) -> TrialRecord | None:
        """The cheapest of the trials that are tied with the winner, where it is cheaper than that."""
        candidates = [repeat.trial for repeat in self.order if repeat.trial.number in self.tied]
        cheapest = min(candidates, key=lambda trial: trial.cost, default=None)
        return cheapest if cheapest is not None and cheapest.cheaper_than(self.winner) else None


class Selector:
    """Judges runs by a study's objective, each against the single-task models of the same seed.

    Args:
        objective: With the mean of the baseline's runs as each task's baseline.
        alone: Metric of each task's single-task model by the seed of its run. Runs of a recipe on other seeds do not
            count.
    """

    def __init__(self, objective: Objective, alone: Mapping[str, Mapping[int, float]]) -> None:
        self._objective = objective
        seeds = set.intersection(*(set(runs) for runs in alone.values())) if alone else set()
        self._gains_alone: dict[int, dict[str, float]] = {
            seed: objective.gains({task: runs[seed] for task, runs in alone.items()}) for seed in sorted(seeds)
        }

    def decide(
        self,
        complete: Sequence[TrialRecord],
        wanted: RepeatsConfig,
        run_again: Callable[[Sequence[TrialRecord]], list[RepeatedTrial]],
    ) -> tuple[list[RepeatedTrial], list[TrialRecord]]:
        """Have the best trials run again, then the cheapest that may be as good.

        Args:
            complete: All complete trials.
            wanted: How many trials, how often.
            run_again: Runs recipes over fresh seeds.

        Returns:
            What was run again, and the other trials; ``select`` takes both.
        """
        ranked = sorted(complete, key=lambda trial: (-self._objective.score(trial.metrics), trial.number))
        # Trials of one recipe, or of recipes that come to the same job, are one.
        ranked = list({trial.job or str(trial.number): trial for trial in reversed(ranked)}.values())[::-1]
        if not wanted.runs:
            return [RepeatedTrial(ranked[0])], ranked[1:]
        first, others = ranked[: wanted.trials], ranked[wanted.trials :]
        repeats = run_again(first)
        cheap = self._cheapest_that_may_win(repeats, others)
        if cheap is not None:
            repeats = [*repeats, *run_again([cheap])]
            others = [trial for trial in others if trial is not cheap]
        return repeats, others

    def select(self, repeats: Sequence[RepeatedTrial], others: Sequence[TrialRecord] = ()) -> Selection:
        """Pick the winner on the mean of its fresh runs.

        Args:
            repeats: Trials that were run again, the best of the search first; without any run, the first wins.
            others: Further complete trials.
        """
        sound = [repeat for repeat in repeats if repeat.metrics and not repeat.failed]
        if not sound:
            return Selection(tuple(repeats))
        scores = {id(repeat): [self._objective.score(run) for run in repeat.metrics.values()] for repeat in sound}
        ranked = sorted(sound, key=lambda repeat: -fmean(scores[id(repeat)]))
        best, rest = ranked[0], ranked[1:]
        marks = tied([scores[id(repeat)] for repeat in ranked])
        reach = reach_of_one(len(best.metrics), Spread.of(list(scores.values())), len(others))
        least = None if reach is None else fmean(scores[id(best)]) - reach
        evidence, runs = self._evidence(ranked), list(best.metrics.values())
        return Selection(
            (*ranked, *(repeat for repeat in repeats if repeat not in sound)),
            self._improvements(ranked),
            {
                task: estimate(*parts, len(ranked), [self._objective.goals[task].gain(m[task]) for m in runs])
                for task, parts in evidence.items()
            },
            tuple(repeat.trial.number for repeat, mark in zip(rest, marks, strict=True) if mark),
            tuple(t.number for t in others if least is not None and self._objective.score(t.metrics) >= least),
            reach,
            tuple(worse({task: found for task, found in evidence.items() if self._objective.goals[task].judged})),
        )

    def _cheapest_that_may_win(
        self, repeats: Sequence[RepeatedTrial], others: Sequence[TrialRecord]
    ) -> TrialRecord | None:
        """The trial that deserves fresh runs because it is the cheapest of all that may be as good as the winner.

        One comparison with 95 % confidence decides, not all at once: of many trials with one run each, some would
        always be within reach of the widest interval. A trial that scored no more than one that is told apart from the
        winner by now is not tried again either.
        """
        verdict = self.select(repeats, others)
        best = verdict.order[0]
        if not verdict.alike or not best.metrics:
            return None
        sound = [repeat for repeat in repeats if not repeat.failed]
        scores = [[self._objective.score(run) for run in repeat.metrics.values()] for repeat in sound]
        reach = reach_of_one(len(best.metrics), Spread.of(scores), 1) or 0.0
        least = fmean(map(self._objective.score, best.metrics.values())) - reach
        known = [verdict.winner, *(repeat.trial for repeat in repeats if repeat.trial.number in verdict.tied)]
        told_apart = [repeat.trial for repeat in verdict.order[1:] if repeat.trial not in known and not repeat.failed]
        least = max([least, *(self._objective.score(trial.metrics) for trial in told_apart)])
        likely = [trial for trial in others if self._objective.score(trial.metrics) > least]
        cheapest = min(likely, key=lambda trial: trial.cost, default=None)
        return cheapest if cheapest is not None and all(map(cheapest.cheaper_than, known)) else None

    def _improvements(self, ranked: Sequence[RepeatedTrial]) -> dict[int, Estimate]:
        against = [self._mean_of(self._differences(repeat)) for repeat in ranked]
        spread = self._spread(against)
        return {
            repeat.trial.number: estimate(
                differences,
                spread,
                1 if place else len(ranked),
                [self._objective.improvement(run) for run in repeat.metrics.values()],
            )
            for place, (repeat, differences) in enumerate(zip(ranked, against, strict=True))
        }

    def _evidence(self, ranked: Sequence[RepeatedTrial]) -> dict[str, tuple[Sequence[float], Spread]]:
        """Per task: the winner's gains over the baseline on the same seeds, and the spread of such a gain."""
        by_rerun = [self._differences(repeat) for repeat in ranked]
        return {
            task: (by_rerun[0][task], self._spread([differences[task] for differences in by_rerun]))
            for task in self._objective.goals
        }

    def _differences(self, repeat: RepeatedTrial) -> dict[str, list[float]]:
        """Per task the gain of each run, less what the baseline's run on the same seed is off its own mean.

        A gain is a ratio, so what the baseline is off moves it by as much as the ratio of the two metrics says (the
        delta method). On average nothing is taken off: the mean stays the gain of the mean.
        """
        seeds = self._seeds_of(repeat)
        found: dict[str, list[float]] = {}
        for task, goal in self._objective.goals.items():
            metrics = [repeat.metrics[seed][task] for seed in seeds]
            alone = [self._gains_alone[seed][task] for seed in seeds] if self._gains_alone else [0.0] * len(seeds)
            ratio, middle = _ratio(goal, metrics), fmean(alone)
            found[task] = [goal.gain(value) - ratio * (own - middle) for value, own in zip(metrics, alone, strict=True)]
        return found

    def _seeds_of(self, repeat: RepeatedTrial) -> list[int]:
        """The seeds on which a recipe and the single-task models ran; all of the recipe's where they share none."""
        return [seed for seed in self._gains_alone if seed in repeat.metrics] or list(repeat.metrics)

    def _mean_of(self, by_task: Mapping[str, Sequence[float]]) -> list[float]:
        """The improvement of each run from its gains."""
        runs = zip(*by_task.values(), strict=True)
        return [self._objective.mean(dict(zip(by_task, run, strict=True))) for run in runs]

    def _spread(self, groups: Sequence[Sequence[float]]) -> Spread:
        """Of a difference to the single-task models; nothing is known of it where no such model ran on these seeds."""
        return Spread.of_differences(groups) if self._gains_alone else Spread()


def _ratio(goal: Goal, metrics: Sequence[float]) -> float:
    """How much a change of the baseline, in percent of itself, changes the gain; 1 where the gain is no plain ratio."""
    if goal.baseline is None or goal.limit is not None or abs(goal.baseline) <= FLOOR * goal.scale:
        return 1.0
    return max(0.0, fmean(metrics) / goal.baseline)
