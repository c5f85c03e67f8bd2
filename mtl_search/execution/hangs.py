"""Hangs: workers of which nothing is heard any more are killed, so that Ray Train starts their group again.

Part of the dispatcher: it alone hears of every epoch.
"""

import time
from collections.abc import Callable
from typing import Any, final

from mtl_search.execution.faults import silent
from mtl_search.execution.ledger import Ledger


@final
class Warden:
    """Knows the workers of every group, and how long each start and each job has been silent.

    Args:
        ledger: Who has which job.
        limit: Seconds without a word of its job after which a group hangs.
        kill: Ends a worker, given what it enrolled with.

    Attributes:
        rhythm: Seconds between two looks.
        rooms: What the workers of a group are placed by.
    """

    def __init__(self, ledger: Ledger, limit: float, kill: Callable[[Any], None]) -> None:
        self._ledger, self._limit, self._kill = ledger, limit, kill
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
        hanging = [*self._ledger.silent(passed, self._limit), *stuck]
        for group in hanging:
            self._starting.pop(group, None)
            incarnation = self._ledger.incarnations[group]
            self._ledger.leave(group, silent(self._limit))
            for worker in self._workers.pop((group, incarnation), []):
                self._kill(worker)
        return bool(hanging)

    def _joined(self, group: str) -> bool:
        return group in self._ledger.incarnations
