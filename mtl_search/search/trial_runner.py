"""What the searcher needs of whoever carries out trials, and how a study does it: each trial is a job of the pool."""

from collections.abc import Callable, Sequence
from typing import Protocol, final

from mtl_search.pool.job_pool import JobPool
from mtl_search.recipe import Recipe
from mtl_search.search.jobs import Jobs
from mtl_search.storage.reports import StageResult
from mtl_search.training.pairings import Pairs


class TrialRunner(Protocol):
    """Carries out the trials of a search."""

    @property
    def size(self) -> int:
        """Worker groups that there are now: no more trials run at once."""

    def has_time(self) -> bool:
        """Whether there is time for another trial."""

    def refusal(self, recipe: Recipe) -> str:
        """Why a recipe's parts make no sense together; empty if they do."""

    def submit(self, recipe: Recipe) -> str:
        """Submit the jobs that a recipe stands for; the key of its joint stage's."""

    def start_of(self, recipe: Recipe) -> str:
        """What joint training of a recipe starts from, in a word; stoppers compare trials of one word.

        Empty where all trials compare.
        """

    def release(self, key: str) -> None:
        """Hear that nobody needs a joint stage's job any more, whatever the reason."""

    def values(self, result: StageResult) -> list[float]:
        """What of a finished job's result Optuna maximises."""


@final
class PoolTrialRunner:
    """Carries out trials as jobs of a pool.

    Args:
        pool: Running.
        jobs: Makes the jobs of a recipe; knows what trials are judged by.
        pairs: Know which variants make no sense together.
        objectives: Tasks whose gains are maximised one by one; a single entry stands for the score itself.
        has_time: Says whether there is time for another trial.
    """

    def __init__(
        self, pool: JobPool, jobs: Jobs, pairs: Pairs, objectives: Sequence[str], has_time: Callable[[], bool]
    ) -> None:
        self._pool, self._jobs, self._pairs, self._objectives = pool, jobs, pairs, objectives
        self._has_time = has_time

    @property
    def size(self) -> int:
        """Worker groups that there are now."""
        return self._pool.size

    def has_time(self) -> bool:
        """Whether there is time for another trial."""
        return self._has_time()

    def refusal(self, recipe: Recipe) -> str:
        """Why a recipe's parts make no sense together; empty if they do."""
        return self._pairs.refusal(recipe)

    def submit(self, recipe: Recipe) -> str:
        """Submit the jobs of a recipe."""
        return self._pool.submit(self._jobs.of(recipe))

    def start_of(self, recipe: Recipe) -> str:
        """What joint training of a recipe starts from, in a word."""
        return self._jobs.start_of(recipe)

    def release(self, key: str) -> None:
        """Drop a job."""
        self._pool.drop(key)

    def values(self, result: StageResult) -> list[float]:
        """The score, or with several objectives each task's gain."""
        if len(self._objectives) == 1:
            return [result.best_score]
        gains = self._jobs.objective.gains(result.metrics)
        return [gains[task] for task in self._objectives]
