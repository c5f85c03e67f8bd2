"""What a study runs on: a pool for its jobs, and somebody who drives its trials. Two kinds, with Ray and without."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from mtl_search.config.study_config import StudyConfig
from mtl_search.pool.job_pool import JobPool
from mtl_search.search.searcher import OptunaSearcher
from mtl_search.search.stoppers import Stopping
from mtl_search.study_store.folder import StudyFolder
from mtl_search.training.workspace import Workload


@dataclass(frozen=True)
class Work:
    """What a runtime must know of a study before it starts.

    Attributes:
        config: The study file.
        workload: What all jobs have in common.
        folder: The study's.
        useful: Jobs that the study can have carried out side by side.
        driver: Name of this driver among several on the study; empty where it is alone.
    """

    config: StudyConfig
    workload: Workload
    folder: StudyFolder
    useful: int
    driver: str = ""


class Session(Protocol):
    """A runtime that has started.

    Attributes:
        pool: Carries out jobs.
        groups: Worker groups at first.
    """

    @property
    def pool(self) -> JobPool: ...

    @property
    def groups(self) -> int: ...

    def run_trials(self, searcher: OptunaSearcher, stopping: Stopping) -> None:
        """Carry out trials until the searcher has no more.

        Args:
            searcher: Says what is tried.
            stopping: Ends trials early.

        Raises:
            StudyError: Nobody can work any more, or what became of a trial cannot be written.
        """


Runtime = Callable[[Work], AbstractContextManager[Session]]
"""Starts what a study runs on, for a block of code.

It raises a ``ConfigError`` where there is no room for the study, and a ``StudyError`` where nobody can work.
"""
