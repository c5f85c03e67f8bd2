"""The verdict: fresh runs of the best trials and of the baselines -> winner, intervals, ties, alarm.

Pure arithmetic on metrics; ``study`` has the runs made, ``outcome`` keeps what is found.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from mtl_search.search.record import TrialRecord
from mtl_search.search.statistics import Estimate, Spread, estimate, tied, worse
from mtl_search.search_config import RepeatsConfig
from mtl_search.training.objective import Objective

Metrics = Mapping[str, float]
"""Main metric by task."""


@dataclass(frozen=True)
class Rerun:
    """A trial and its fresh runs.

    Attributes:
        trial: Complete.
        metrics: On validation, a mapping for each run that ended well.
        failed: How many runs did not.
    """

    trial: TrialRecord
    metrics: Sequence[Metrics] = ()
    failed: int = 0


@dataclass(frozen=True)
class Verdict:
    """What the runs say.

    Attributes:
        order: The trials that were run again, the winner first, then those without a failed run by their mean.
        improvement: By trial number: improvement over the baselines in percent.
        gains: Of the winner by task: gain over its baseline in percent.
        tied: Numbers of trials run again that cannot be told from the winner.
        alike: Numbers of the other trials that cannot, by their one run in the search.
        worse: Tasks of the winner that do worse than alone, with confidence.
    """

    order: tuple[Rerun, ...]
    improvement: Mapping[int, Estimate] = field(default_factory=dict)
    gains: Mapping[str, Estimate] = field(default_factory=dict)
    tied: tuple[int, ...] = ()
    alike: tuple[int, ...] = ()
    worse: tuple[str, ...] = ()


class Judge:
    """Judges runs by a study's objective.

    Args:
        objective: With the mean of the baselines' runs as each task's baseline.
        baselines: Validation metric of each run of a task's single-task model.
    """

    def __init__(self, objective: Objective, baselines: Mapping[str, Sequence[float]]) -> None:
        self._objective = objective
        # What the baselines' own runs come to, in the unit of what is judged: they spread around zero.
        runs = [dict(zip(baselines, values, strict=True)) for values in zip(*baselines.values(), strict=False)]
        self._gains_alone = {task: [objective.gains(run)[task] for run in runs] for task in baselines}
        self._improvement_alone = [objective.improvement(run) for run in runs]

    def decide(
        self,
        complete: Sequence[TrialRecord],
        wanted: RepeatsConfig,
        run_again: Callable[[Sequence[TrialRecord]], list[Rerun]],
    ) -> Verdict:
        """Have the best trials run again, then the cheapest that may be as good, and pick the winner.

        Args:
            complete: All complete trials.
            wanted: How many trials, how often.
            run_again: Runs recipes over fresh seeds.
        """
        ranked = sorted(complete, key=lambda trial: (-self._objective.score(trial.metrics), trial.number))
        # Trials of one recipe, or of recipes that come to the same job, are one.
        ranked = list({trial.job or str(trial.number): trial for trial in reversed(ranked)}.values())[::-1]
        if not wanted.runs:
            return self.verdict([Rerun(ranked[0])])
        first, others = ranked[: wanted.trials], ranked[wanted.trials :]
        reruns = run_again(first)
        verdict = self.verdict(reruns, others)
        known = [verdict.order[0].trial, *(trial for trial in first if trial.number in verdict.tied)]
        alike = [trial for trial in others if trial.number in verdict.alike]
        cheapest = min([*known, *alike], key=lambda trial: trial.price)
        if cheapest in known or not all(cheapest.cheaper_than(trial) for trial in known):
            return verdict
        reruns = [*reruns, *run_again([cheapest])]
        return self.verdict(reruns, [trial for trial in others if trial is not cheapest])

    def verdict(self, reruns: Sequence[Rerun], others: Sequence[TrialRecord] = ()) -> Verdict:
        """Pick the winner on the mean of its fresh runs.

        Args:
            reruns: Trials that were run again, the best of the search first; without any run, the first wins.
            others: Further complete trials.
        """
        sound = [rerun for rerun in reruns if rerun.metrics and not rerun.failed]
        if not sound:
            return Verdict(tuple(reruns))
        scores = {id(rerun): [self._objective.score(run) for run in rerun.metrics] for rerun in sound}
        ranked = sorted(sound, key=lambda rerun: -fmean(scores[id(rerun)]))
        best, rest = ranked[0], ranked[1:]
        spread = Spread.of(list(scores.values()))
        marks = tied(scores[id(best)], [scores[id(rerun)] for rerun in rest], spread)
        single = tied(scores[id(best)], [[self._objective.score(trial.metrics)] for trial in others], spread)
        return Verdict(
            (*ranked, *(rerun for rerun in reruns if rerun not in sound)),
            self._improvements(ranked),
            self._gains(best, ranked),
            tuple(rerun.trial.number for rerun, mark in zip(rest, marks, strict=True) if mark),
            tuple(trial.number for trial, mark in zip(others, single, strict=True) if mark),
            tuple(worse(self._evidence(best, ranked))),
        )

    def _improvements(self, ranked: Sequence[Rerun]) -> dict[int, Estimate]:
        runs = [[self._objective.improvement(run) for run in rerun.metrics] for rerun in ranked]
        spread, alone = Spread.of(runs), self._improvement_alone
        return {
            rerun.trial.number: estimate(values, spread, alone, 1 if place else len(ranked))
            for place, (rerun, values) in enumerate(zip(ranked, runs, strict=True))
        }

    def _gains(self, best: Rerun, ranked: Sequence[Rerun]) -> dict[str, Estimate]:
        return {
            task: estimate(runs, spread, alone, len(ranked))
            for task, (runs, spread, alone) in self._evidence(best, ranked).items()
        }

    def _evidence(
        self, best: Rerun, ranked: Sequence[Rerun]
    ) -> dict[str, tuple[Sequence[float], Spread, Sequence[float]]]:
        """Per task the winner's gains, a run's spread, and the gains of the baseline's own runs."""
        gains = {id(rerun): [self._objective.gains(run) for run in rerun.metrics] for rerun in ranked}
        return {
            task: (
                [run[task] for run in gains[id(best)]],
                Spread.of([[run[task] for run in runs] for runs in gains.values()]),
                alone,
            )
            for task, alone in self._gains_alone.items()
        }
