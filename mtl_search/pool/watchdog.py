"""Hangs: workers of which nothing is heard any more are killed, so that Ray Train starts their group again.

Part of the job queue: it alone hears of every epoch.
"""

import time
from collections.abc import Callable
from typing import Any, final

from mtl_search.pool.job_table import JobTable
from mtl_search.pool.jobs import silence_reason


@final
class Watchdog:
    """Knows the workers of every group, and how long each start and each job has been silent.

    Args:
        job_table: Who has which job.
        limit: Seconds without a word of its job after which a group hangs.
        kill: Ends a worker, given what it enrolled with.

    Attributes:
        rhythm: Seconds between two looks.
        rooms: What the workers of a group are placed by.
    """

    def __init__(self, job_table: JobTable, limit: float, kill: Callable[[Any], None]) -> None:
        self._job_table, self._limit, self._kill = job_table, limit, kill
        self._workers: dict[tuple[str, str], list[Any]] = {}
        self._starting: dict[str, float] = {}
        self._last = time.monotonic()
        self.rooms: dict[str, Any] = {}
        self.rhythm = min(1.0, limit / 4)

    def enrol(self, group: str, incarnation: str, worker: Any) -> None:
        """Hear of one worker of a group's incarnation; those of the incarnations before it are of no use any more."""
        for known in [each for each in self._workers if each[0] == group and each[1] != incarnation]:
            del self._workers[known]
        self._workers.setdefault((group, incarnation), []).append(worker)
        self._starting[group] = 0.0

    def ready(self, group: str) -> None:
        """A group has what it needs for its jobs: that it waits for one is no silence."""
        self._starting.pop(group, None)

    def look(self) -> bool:
        """Kill the workers of groups that hang; whether there were any.

        What counts is this process's own waking time: a clock that jumps, or a machine that sleeps, harms nobody.
        """
        now = time.monotonic()
        passed, self._last = min(now - self._last, 2 * self.rhythm), now
        self._starting = {each: silence + passed for each, silence in self._starting.items() if self._joined(each)}
        stuck = [group for group, silence in self._starting.items() if silence > self._limit]
        hanging = [*self._job_table.silent(passed, self._limit), *stuck]
        for group in hanging:
            self._starting.pop(group, None)
            incarnation = self._job_table.incarnations[group]
            self._job_table.leave(group, silence_reason(self._limit))
            for worker in self._workers.pop((group, incarnation), []):
                self._kill(worker)
        return bool(hanging)

    def _joined(self, group: str) -> bool:
        return group in self._job_table.incarnations
