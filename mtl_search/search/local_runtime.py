"""A study in this very process, without Ray: jobs one after the other, trials one after the other."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from mtl_search.pool.jobs import JobState, Update
from mtl_search.pool.local_pool import LocalPool, local_pool
from mtl_search.search.runtime import Work
from mtl_search.search.searcher import NoTrial, OptunaSearcher, StartedTrial
from mtl_search.search.stoppers import Stopping
from mtl_search.storage.reports import EpochReport

_LOOK_SECONDS = 0.2
"""Between two questions for a trial where there is none now."""


@dataclass(frozen=True)
class LocalSession:
    """A local pool, and trials one after the other (a ``search.runtime.Session``).

    Attributes:
        pool: Carries out jobs in this process.
        groups: This process alone.
    """

    pool: LocalPool
    groups: int = 1

    def run_trials(self, searcher: OptunaSearcher, stopping: Stopping) -> None:
        """Carry out trials until the searcher has no more.

        Args:
            searcher: Says what is tried.
            stopping: Ends trials early.

        Raises:
            StudyError: What became of a trial cannot be written.
        """
        for name in map(str, count()):
            while (trial := searcher.start_trial(name)) is NoTrial.NOT_NOW:
                time.sleep(_LOOK_SECONDS)
            if isinstance(trial, NoTrial):
                return
            try:
                _Trial(name, trial, searcher, stopping).run(self.pool)
            except Exception:
                searcher.check()
                raise


@contextmanager
def local_runtime(work: Work, tell: Callable[[str], None] = lambda _: None) -> Iterator[LocalSession]:
    """A local pool for a block of code.

    Args:
        work: The study.
        tell: Told the traceback of an error in a user's own code.
    """
    with local_pool(work.workload, work.config.resources, tell) as pool:
        yield LocalSession(pool)


@dataclass
class _Trial:
    """One trial on its way.

    Attributes:
        name: What the searcher calls it.
        trial: Its job, and what it starts from.
        searcher: Hears of every epoch.
        stopping: Says whether the trial goes on.
        last: The last epoch that was reported; None for none.
        stopped: Whether the stopper has ended the trial.
    """

    name: str
    trial: StartedTrial
    searcher: OptunaSearcher
    stopping: Stopping
    last: EpochReport | None = None
    stopped: bool = field(default=False)

    def run(self, pool: LocalPool) -> None:
        """From the first epoch to the end."""
        end = pool.follow(self.trial.job, self.hear)
        for report in end.result.history if end.result is not None else ():  # of a job found finished on disk
            self.hear(report)
        if self.stopped and self.last is not None:
            end = Update([self.last], JobState.RUNNING)
        self.stopping.end(self.name, self.trial.start)
        self.searcher.end(self.name, end)

    def hear(self, report: EpochReport) -> bool:
        """Pass an epoch on, unless it was reported before; whether the trial goes on."""
        if not self.stopped and (self.last is None or report.epoch > self.last.epoch):
            self.last = report
            self.stopped = self.stopping.stops(self.name, self.trial.start, report.epoch, report.best_score)
            if not self.stopped:
                self.searcher.report(self.name, report)
        return not self.stopped
