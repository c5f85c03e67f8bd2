"""Studies whose truth is known: training draws noise around planted gains; choosing and judging are the real code."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mtl_search.config.search_config import RepeatsConfig
from mtl_search.pool.jobs import Job, JobState, Update
from mtl_search.recipe import Component, Recipe, Schedule
from mtl_search.results.objective import Goal, Objective
from mtl_search.results.selection import RepeatedTrial, Selection, Selector
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.baselines import Baselines
from mtl_search.search.callbacks import Callback
from mtl_search.search.contenders import Contender
from mtl_search.search.jobs import Start
from mtl_search.storage.reports import EpochReport, StageResult

HISTORY = (EpochReport(0, 0.0, 0.0),)
RECIPE = Recipe(Component("hard"), Component("mean"), Component("fixed"), Schedule(), Schedule())


@dataclass(frozen=True)
class OneSeed:
    """The jobs of one seed: a name says whose model it is, a task and the seed the rest."""

    seed: int

    def start(self, recipe: Recipe) -> Start:
        return Start()

    def model(self, name: str, task: str) -> Job:
        return Job(f"{name}/{task}/{self.seed}", None)


@dataclass
class PlantedStudy:
    """A study that nobody trains.

    A metric is ``alone * (1 + (gain + seed effect + noise) / 100)``; all that runs on a seed has its effect in common.

    Attributes:
        trials: True gain of each trial by task in percent, (trials, tasks).
        singles: True gain of each kind of single-task models, (kinds, tasks); the first is the default recipe's, a
            second is tuned, and the others are the winner's controls, whichever trial that is.
        seed: Of all noise.
        common: Standard deviation of the seed effect.
        noise: Of a trial's run.
        noise_alone: Of a single-task model's run.
        choosing: Number of seeds that choose baselines.
        fresh: Number of fresh seeds.
    """

    trials: np.ndarray
    singles: np.ndarray
    seed: int
    common: float = 1.0
    noise: float = 1.0
    noise_alone: float = 1.0
    choosing: int = 3
    fresh: int = 3
    _draws: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tasks = tuple(f"task{number}" for number in range(self.trials.shape[1]))
        self.alone = dict(zip(self.tasks, np.linspace(0.6, 80.0, len(self.tasks)), strict=True))
        self.higher = {task: bool(number % 2) for number, task in enumerate(self.tasks)}
        goals = {task: Goal(self.higher[task]) for task in self.tasks}
        fresh = range(self.choosing, self.choosing + self.fresh)
        self.baselines = Baselines(self.jobs, Objective(goals), range(self.choosing), fresh, Callback())

    def jobs(self, seed: int) -> Any:
        return OneSeed(seed)

    def run(self, jobs: Sequence[Job], heard: Callable[[Job, Update], None] | None = None) -> list[Update]:
        """Train, as a pool does: the key says what."""
        return [self._update(job) for job in jobs]

    def _update(self, job: Job) -> Update:
        name, task, seed = job.key.split("/")
        gain = self.singles[int(name)][self.tasks.index(task)]
        metric = self._metric(task, gain, int(seed), self.noise_alone, job.key)
        return Update(state=JobState.DONE, result=StageResult(metrics={task: metric}, best_epoch=1, history=HISTORY))

    def _metric(self, task: str, gain: float, seed: int, noise: float, key: str) -> float:
        common = self._draw(f"{task}/{seed}", self.common)
        change = (gain + common + self._draw(key, noise)) / 100
        return float(self.alone[task] * (1 + (change if self.higher[task] else -change)))

    def _draw(self, key: str, deviation: float) -> float:
        if key not in self._draws:
            self._draws[key] = float(self._random.normal(0, deviation))
        return self._draws[key]

    @cached_property
    def _random(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def metrics(self, trial: int, seed: int) -> dict[str, float]:
        """What a trial's recipe comes to on a seed."""
        gains = zip(self.tasks, self.trials[trial], strict=True)
        return {task: self._metric(task, gain, seed, self.noise, f"trial{trial}/{task}/{seed}") for task, gain in gains}

    def records(self) -> list[TrialRecord]:
        """The trials as the search knows them, the later the cheaper."""
        many = len(self.trials)
        return [
            TrialRecord(n, "complete", metrics=self.metrics(n, 0), parameters=many - n, epoch_seconds=1.0)
            for n in range(many)
        ]

    def run_again(self, trials: Sequence[TrialRecord]) -> list[RepeatedTrial]:
        seeds = self.baselines.measuring
        return [RepeatedTrial(trial, {seed: self.metrics(trial.number, seed) for seed in seeds}) for trial in trials]

    def contender(self, kind: int) -> Contender:
        return Contender(
            "" if kind == 0 else str(kind), f"kind {kind}", RECIPE, lambda jobs, _, task: [jobs.model(str(kind), task)]
        )

    @property
    def judge(self) -> Selector:
        alone = {task: baseline.metrics for task, baseline in self.baselines.by_task.items()}
        return Selector(self.baselines.against(), alone)

    def decide(self) -> Selection:
        """From the trials to the verdict, as a study does."""
        pool: Any = self
        self.baselines.add(pool, [self.contender(kind) for kind in range(min(2, len(self.singles)))])
        self.baselines.measure(pool)
        repeats, others = self.judge.decide(self.records(), RepeatsConfig(runs=self.fresh), self.run_again)
        self.baselines.add(pool, [self.contender(kind) for kind in range(2, len(self.singles))])
        self.baselines.measure(pool)
        return self.judge.select(repeats, others)

    def true_gains(self, trial: int) -> dict[str, float]:
        """A trial's true gain in percent over the baseline that was chosen, by task."""
        found = {}
        for number, (task, baseline) in enumerate(self.baselines.by_task.items()):
            sign = 1 if self.higher[task] else -1
            own = self.singles[int(baseline.contender.name or 0)][number]
            found[task] = (self.trials[trial][number] - own) / (1 + sign * own / 100)
        return found
