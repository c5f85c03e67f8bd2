"""What a study needs of a pool of jobs, whether worker groups on Ray carry them out or this very process does."""

from collections.abc import Callable, Sequence
from typing import Protocol

from mtl_search.pool.jobs import Job, JobError, JobState, Update
from mtl_search.storage.reports import StageResult

JobListener = Callable[[Job, Update], None]
"""Called with each job's news as it comes."""


class JobPool(Protocol):
    """Carries out jobs."""

    @property
    def size(self) -> int:
        """Worker groups that can work now."""

    def submit(self, jobs: Sequence[Job]) -> str:
        """Queue jobs, those that others need first; the key of the last.

        Raises:
            StudyError: Nobody can work.
        """

    def drop(self, key: str) -> None:
        """Stop a job that nobody follows any more, and forget it once it has ended."""

    def check(self) -> None:
        """See that somebody can work.

        Raises:
            StudyError: Nobody can, and nobody will.
        """

    def run(self, jobs: Sequence[Job], heard: JobListener | None = None) -> list[Update]:
        """Submit jobs and wait for all of them to end.

        Args:
            jobs: Any jobs; those known already are not run again.
            heard: Called with each job's news as it comes.

        Returns:
            The last update of every job, in order.

        Raises:
            StudyError: Nobody can work any more.
        """

    def results(self, jobs: Sequence[Job], heard: JobListener | None = None) -> list[StageResult]:
        """Run jobs that must all succeed.

        Raises:
            JobError: One of them failed.
        """


def results_of(updates: Sequence[Update]) -> list[StageResult]:
    """The results of jobs that must all have succeeded.

    Raises:
        JobError: One of them failed.
    """
    results = []
    for update in updates:
        if update.state is not JobState.DONE or update.result is None:
            raise JobError(f"{update.reason or update.state.value}")
        results.append(update.result)
    return results
