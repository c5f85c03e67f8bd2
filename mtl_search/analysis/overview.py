"""Overview: a study as its folder holds it, read once, for whoever shows it: figures and reports.

A study that has not ended has one too: without an outcome there are no baselines that count in the end, so what
is measured against them is not there yet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from mtl_search.analysis.importance import (
    OBJECTIVE,
    Dependence,
    Importance,
    importance,
    partial_dependence,
    score_trials,
)
from mtl_search.analysis.pareto import Point, hypervolume, pareto_front, points_of, reference_of
from mtl_search.config.search_config import MEAN_IMPROVEMENT
from mtl_search.config.study_config import StudyConfig
from mtl_search.results.outcome import Outcome
from mtl_search.results.trial_record import TrialRecord
from mtl_search.storage.files import read_json
from mtl_search.storage.reports import EpochReport
from mtl_search.storage.stage_results import result_in
from mtl_search.study_store.folder import StudyFolder

MOST_DEPENDENCES = 4


def running_minimum(values: Sequence[float]) -> float:
    """Where an axis of scores should end: a few trials that went badly must not flatten all others."""
    best, middle = max(values), median(values)
    return max(min(values), middle - 3 * max(best - middle, 0.1))


@dataclass(frozen=True)
class SearchedParameter:
    """A parameter that the study searches.

    Attributes:
        name: As in the space.
        choices: What it may be; empty for a number.
        low: Lower end of a number.
        high: Upper end of a number.
        log: Whether a number's logarithm is sampled.
    """

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False


@dataclass(frozen=True)
class Affinity:
    """Task affinity of one kind.

    Attributes:
        kind: What it was measured with.
        matrix: Of each task to every other.
        groups: That it makes.
    """

    kind: str
    matrix: Mapping[str, Mapping[str, float]]
    groups: tuple[tuple[str, ...], ...]


class Overview:
    """What there is to show of a study.

    Args:
        folder: The study's.

    Raises:
        StudyError: There is no such study (when something is first read).
    """

    def __init__(self, folder: StudyFolder) -> None:
        self.folder = folder

    @cached_property
    def config(self) -> StudyConfig:
        """The study file."""
        return self.folder.read_config()

    @cached_property
    def outcome(self) -> Outcome | None:
        """What was found; None before the study's end."""
        written = self.folder.read_outcome()
        return None if written is None else Outcome.from_dict(written)

    @cached_property
    def _trials(self) -> list[FrozenTrial]:
        return self.folder.read_trials(self.config.search.storage)

    @cached_property
    def records(self) -> list[TrialRecord]:
        """Every trial, in order."""
        return [TrialRecord.of(trial) for trial in self._trials]

    @cached_property
    def points(self) -> list[Point]:
        """Every model on disk against the baselines; none before the study's end."""
        return [] if self.outcome is None else points_of(self.folder, self.records, self.outcome.objective)

    @cached_property
    def front(self) -> list[Point]:
        """The points that no other beats."""
        return [] if self.outcome is None else pareto_front(self.points, self.outcome.objective.goals)

    @cached_property
    def hypervolumes(self) -> list[tuple[int, float]]:
        """Trial, and hypervolume of all points up to it, see ``search.pareto.hypervolume``."""
        found = hypervolume(self.points, reference_of(self.front))
        return [(point.trial, value) for point, value in zip(self.points, found, strict=True)]

    @property
    def judged_by(self) -> str:
        """What ``improvements`` holds, in words with its unit."""
        if self.outcome is not None or self.config.search.kind == MEAN_IMPROVEMENT:
            return "improvement (%)"
        wanted = self.config.search.kind
        return f"objective ({wanted if isinstance(wanted, str) else ', '.join(wanted)})"

    @cached_property
    def metrics(self) -> dict[int, Mapping[str, float]]:
        """Main validation metric by task, by trial at its best epoch; of those stopped early after the study's end."""
        found = {record.number: record.metrics for record in self.records if record.metrics}
        return found | {point.trial: point.metrics for point in self.points}

    @cached_property
    def improvements(self) -> dict[int, float]:
        """Improvement in percent by trial, of trials that were stopped early at their best epoch.

        Against the outcome's baselines; before the study's end what the search maximises.
        """
        found = {r.number: r.value for r in self.records if r.value is not None and self.outcome is None}
        if self.outcome is not None:
            objective = self.outcome.objective
            found |= {number: objective.improvement(values) for number, values in self.metrics.items()}
        return dict(sorted(found.items()))

    @cached_property
    def searched(self) -> list[SearchedParameter]:
        """Parameters that some trial sampled, in the order of the space."""
        domains = {name: domain for trial in self._trials for name, domain in trial.distributions.items()}
        return [
            SearchedParameter(name, tuple(domain.choices))
            if isinstance(domain, CategoricalDistribution)
            else SearchedParameter(name, (), *_ends(domain))
            for name, domain in domains.items()
        ]

    @cached_property
    def params(self) -> dict[int, Mapping[str, Any]]:
        """Sampled values by trial."""
        return {trial.number: trial.params for trial in self._trials}

    @cached_property
    def importances(self) -> list[Importance]:
        """Importance of the parameters for the objective, and for each task once the study has ended."""
        found = [importance(OBJECTIVE, self._trials, self._score)]
        goals = {} if self.outcome is None else self.outcome.objective.goals
        for task, goal in goals.items():

            def score(trial: FrozenTrial, task: str = task, signed: Any = goal.signed) -> float | None:
                metrics = trial.user_attrs.get("metrics", {})
                return None if task not in metrics else float(signed(metrics[task]))

            found.append(importance(task, self._trials, score))
        return found

    @cached_property
    def dependences(self) -> list[Dependence]:
        """Partial dependence of the objective on the parameters that mattered most."""
        top = list(self.importances[0].shares)
        values = [value for _, value in score_trials(self._trials, self._score)]
        low = running_minimum(values) if values else 0.0

        def score(trial: FrozenTrial) -> float | None:
            value = self._score(trial)
            return None if value is None else max(value, low)

        made = (partial_dependence(name, self._trials, score) for name in top)
        found: list[Dependence] = []
        for dependence in made:
            if dependence is not None and len(found) < MOST_DEPENDENCES:
                found.append(dependence)
            if len(found) == MOST_DEPENDENCES:
                break
        return found

    @cached_property
    def distinct(self) -> int:
        """Different recipes that ran to their end."""
        return len(score_trials(self._trials, self._score))

    def _score(self, trial: FrozenTrial) -> float | None:
        """Improvement of a trial that ran to its end."""
        return self.improvements.get(trial.number) if trial.state is TrialState.COMPLETE else None

    @cached_property
    def winner_history(self) -> list[EpochReport]:
        """A report per epoch of the winner's joint training; none where its files are gone."""
        number = None if self.outcome is None else self.outcome.number
        job = next((record.job for record in self.records if record.number == number), None)
        result = result_in(self.folder.trials / job) if job else None
        return [] if result is None else list(result.history)

    @cached_property
    def affinities(self) -> list[Affinity]:
        """Task affinity by each kind that was measured."""
        file = self.folder.affinity_file
        found = read_json(file) if file.exists() else {}
        return [
            Affinity(kind, each["affinity"], tuple(tuple(group) for group in each["groups"]))
            for kind, each in sorted(found.items())
        ]


def _ends(domain: Any) -> tuple[float, float, bool]:
    return float(domain.low), float(domain.high), bool(domain.log)
