"""The job queue: job queue, reports and stop requests between the search and the worker groups.

Runs as one small async Ray actor and as a plain object in tests. It hands out jobs and keeps what
is said of them; placement, process groups, restarts and resources stay Ray's.

Every rank of a group asks for itself. What a rank is told depends on (group, incarnation, how many jobs it has taken)
and is decided once, so ranks agree without a collective. An incarnation is one life of a group's processes: after a
restart the group joins anew, its unfinished jobs go back to the queue's front, and whatever the dead incarnation still
says is not heard.

The job queue's own process may die; Ray starts it again, with an empty memory. Nobody is told anything then until the
pool has said again what it wants (``begin``), and a group that the new life does not know is told to join again.
"""

import asyncio
import pickle
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray

from mtl_search.pool.job_table import JobRecord, JobTable
from mtl_search.pool.jobs import Job, JobState, Lease, Reregister, Shutdown, Update
from mtl_search.pool.watchdog import Watchdog
from mtl_search.storage.reports import EpochReport, StageResult

LOCKSTEP_TIMEOUT = 15.0
"""Seconds after which a job no longer waits for its reader (which may have died and come back)."""


def _kill_actor(handle: bytes) -> None:
    """Kill a worker, whose handle comes pickled: to unpickle it imports Ray Train, which takes 75 MiB."""
    ray.kill(pickle.loads(handle))  # noqa: S301  of this study's own worker


class JobQueue:
    """See the module. All methods are coroutines, run one at a time between their waits.

    Args:
        groups: Worker groups that are to come.
        patience: Seconds a job waits at most, at each epoch, for its reader; never long enough to count as hanging.
        max_retries: How often in a row a job may lose its workers and be tried again.
        report_timeout: Seconds without a word of its job, or of its start, after which a group hangs.
        begun: Whether to serve before ``begin`` was called.
        kill: Ends a worker, given what it enrolled with.
    """

    def __init__(
        self,
        groups: int = 1,
        patience: float = LOCKSTEP_TIMEOUT,
        max_retries: int = 3,
        report_timeout: float = 7200.0,
        begun: bool = True,
        kill: Callable[[Any], None] = _kill_actor,
    ) -> None:
        self._job_table = JobTable(groups, max_retries)
        self._watchdog = Watchdog(self._job_table, report_timeout, kill)
        self._patience, self._begun, self._closed = min(patience, report_timeout / 2), begun, False
        self._news = asyncio.Condition()
        self._resting: set[str] = set()
        self._watch: asyncio.Task[None] | None = None

    # The search's side.

    async def begin(self, groups: int, jobs: list[Job]) -> None:
        """Take up work, or in a new life take it up again: so many groups, and these jobs."""
        async with self._news:
            self._job_table.groups, self._begun = groups, True
            for job in jobs:
                self._job_table.add(job)
            self._news.notify_all()

    async def submit(self, *jobs: Job) -> None:
        """Queue jobs, those that others need first; one whose key is known is the same job, whatever has become of it.

        A cancelled job is taken up again. All go in at once: a call per job may arrive in another order, and a worker
        that asks in between would find a job without what it needs.
        """
        async with self._news:
            for job in jobs:
                self._job_table.add(job)
            self._news.notify_all()

    async def follow(self, key: str, seen: int, timeout: float) -> Update:
        """News of a job: at once where there is any, else as soon as there is, or after ``timeout`` seconds.

        Args:
            key: The job.
            seen: The epoch the caller waits for.
            timeout: Seconds to wait at most.
        """
        async with self._news:
            await self._wait_for(lambda: self._begun, timeout)
            entry = self._job_table.entries.get(key)
            if entry is None:
                return Update(state=JobState.CANCELLED, reason=f"job {key} is not known") if self._begun else Update()
            if seen > entry.seen:
                entry.seen = seen
                self._news.notify_all()
            await self._wait_for(lambda: entry.state.ended or entry.heard > seen, timeout)
            return entry.news(seen)

    async def stop(self, key: str) -> None:
        """End a job: at the end of its epoch where it runs, at once where it waits."""
        async with self._news:
            self._job_table.stop(key)
            self._news.notify_all()

    async def forget(self, key: str) -> None:
        """Drop a job that nobody will ask for again once it has ended, so that memory does not grow with the trials."""
        async with self._news:
            self._job_table.forget(key)

    async def close(self) -> None:
        """Tell every worker to retire."""
        async with self._news:
            self._closed = True
            self._news.notify_all()

    async def give_up(self, reason: str) -> None:
        """End every job, and each that is still to come: there is nobody left to do it."""
        async with self._news:
            self._job_table.give_up(reason)
            self._news.notify_all()

    async def groups(self) -> dict[str, str] | None:
        """Key of the running job, or ``""``, by joined group; None in a life that has not begun."""
        return self._job_table.running() if self._begun else None

    async def problem(self) -> str:
        """Why no group will ever work, e.g. the data does not fit the device; empty while one may."""
        return self._job_table.problem

    # The workers' side.

    async def join(self, group: str, incarnation: str) -> None:
        """Take up a group's new incarnation (rank 0 says so before any rank asks for work)."""
        async with self._news:
            self._job_table.join(group, incarnation)
            self._resting.discard(group)
            self._watch = self._watch or asyncio.create_task(self._listen())
            self._news.notify_all()

    async def enrol(self, group: str, incarnation: str, worker: Any) -> None:
        """Hear of one worker of an incarnation, which is killed where it hangs."""
        self._watchdog.enrol(group, incarnation, worker)

    async def down(self, group: str, fault: str = "") -> None:
        """A group's workers are gone, by a fault or not; its job goes to whoever is free first."""
        async with self._news:
            self._job_table.leave(group, fault)
            self._news.notify_all()

    async def leave(self, group: str) -> tuple[bool, Any]:
        """A group's run has ended; whether it took a job in it, and the room that it had."""
        await self.down(group)
        return self._job_table.worked(group), self._watchdog.rooms.pop(group, None)

    async def settle(self, group: str, room: Any) -> None:
        """Hear what a group's workers are placed by; nobody else removes it where their controller is killed."""
        self._watchdog.rooms[group] = room

    async def rest(self, group: str, timeout: float) -> bool:
        """Have a group give back its job at the end of the epoch and take no other; whether it has, or is gone."""
        async with self._news:
            if group in self._job_table.incarnations:
                self._resting.add(group)
                await self._wait_for(lambda: not self._job_table.running().get(group), timeout)
            return not self._job_table.running().get(group)

    async def broken(self, group: str, reason: str) -> None:
        """A group cannot work, and would not after a restart either. Its ranks are told to retire."""
        async with self._news:
            self._job_table.leave(group)
            self._job_table.fail(group, reason)
            self._news.notify_all()

    async def take(
        self, group: str, incarnation: str, count: int, timeout: float
    ) -> Lease | Shutdown | Reregister | None:
        """The next job of a rank that has taken ``count`` jobs; None where none came within ``timeout`` seconds."""
        place = (group, incarnation, count)
        async with self._news:
            if not self._job_table.knows(group, incarnation):
                return Reregister()
            self._watchdog.ready(group)
            await self._wait_for(lambda: self._closed or self._job_table.stale(place) or self._assign(place), timeout)
            lease = self._job_table.leases.get(place)
            return lease or (Shutdown() if self._closed or self._job_table.stale(place) else None)

    async def report(self, group: str, incarnation: str, lease: Lease, report: EpochReport) -> Reregister | None:
        """Hear of a finished epoch."""
        return await self._told((group, incarnation, lease), lambda entry: self._job_table.on_report(entry, report))

    async def proceed(self, group: str, incarnation: str, lease: Lease, epoch: int) -> bool | Reregister:
        """Whether to go on after an epoch; decided once per attempt and epoch, so all ranks hear the same."""
        async with self._news:
            if not self._job_table.knows(group, incarnation):
                return Reregister()
            entry = self._job_table.current(group, incarnation, lease)
            if entry is None:
                return False
            if entry.job.lockstep:
                await self._wait_for(
                    lambda: (
                        entry.stop
                        or self._closed
                        or entry.owner != (group, incarnation)
                        or epoch in entry.verdicts
                        or entry.seen >= entry.heard - 1
                    ),
                    self._patience,
                )
            if self._job_table.current(group, incarnation, lease) is not entry:  # taken away while it waited
                return False
            entry.silence = 0.0
            return entry.verdicts.setdefault(epoch, not (entry.stop or self._closed or group in self._resting))

    async def finish(self, group: str, incarnation: str, lease: Lease, result: StageResult) -> Reregister | None:
        """Hear that a job is done, or that it stopped as it was told to."""
        who = (group, incarnation, lease)
        return await self._told(who, lambda entry: self._job_table.finish(entry, result, self._closed))

    async def fail(self, group: str, incarnation: str, lease: Lease, reason: str) -> Reregister | None:
        """Hear that a job cannot be done; it is not tried again."""
        who = (group, incarnation, lease)
        return await self._told(who, lambda entry: self._job_table.end(entry, JobState.FAILED, reason))

    async def _told(self, who: tuple[str, str, Lease], change: Callable[[JobRecord], None]) -> Reregister | None:
        """Change a job as a worker says, unless somebody else has it by now."""
        async with self._news:
            if (entry := self._job_table.current(*who)) is not None:
                change(entry)
                self._news.notify_all()
            return None if self._job_table.knows(*who[:2]) else Reregister()

    async def _listen(self) -> None:
        while not self._closed:
            await asyncio.sleep(self._watchdog.rhythm)
            async with self._news:
                if self._watchdog.look():
                    self._news.notify_all()

    def _assign(self, place: tuple[str, str, int]) -> bool:
        """Give a place its next lease if there is a job; readers of jobs that can never start hear of it."""
        if place not in self._job_table.leases and (place[0] in self._resting or not self._begun):
            return False
        before, assigned = self._job_table.waiting, self._job_table.assign(place)
        if self._job_table.waiting < before - assigned:
            self._news.notify_all()
        return assigned

    async def _wait_for(self, ready: Callable[[], bool], timeout: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._news.wait_for(ready)
