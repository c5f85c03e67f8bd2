"""The mailbox: job queue, reports and stop requests between the search and the worker groups.

Runs as one small async Ray actor, the dispatcher, and as a plain object in tests. It hands out jobs and keeps what
is said of them; placement, process groups, restarts and resources stay Ray's.

Every rank of a group asks for itself. What a rank is told depends on (group, incarnation, how many jobs it has taken)
and is decided once, so ranks agree without a collective. An incarnation is one life of a group's processes: after a
restart the group joins anew, its unfinished jobs go back to the queue's front, and whatever the dead incarnation still
says is not heard.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from mtl_search.execution.jobs import Job, JobState, Retire, Ticket, Update
from mtl_search.execution.ledger import Ledger

LOCKSTEP_PATIENCE = 15.0
"""Seconds after which a job no longer waits for its reader (which may have died and come back)."""


class Mailbox:
    """See the module. All methods are coroutines, run one at a time between their waits.

    Args:
        groups: Worker groups that are to come.
        patience: Seconds a job waits at most, at each epoch, for its reader.
    """

    def __init__(self, groups: int = 1, patience: float = LOCKSTEP_PATIENCE) -> None:
        self._ledger = Ledger(groups)
        self._patience = patience
        self._closed = False
        self._news = asyncio.Condition()

    # The search's side.

    async def submit(self, *jobs: Job) -> None:
        """Queue jobs, those that others need first; one whose key is known is the same job, whatever has become of it.

        A cancelled job is taken up again. All go in at once: a call per job may arrive in another order, and a worker
        that asks in between would find a job without what it needs.
        """
        async with self._news:
            for job in jobs:
                self._ledger.add(job)
            self._news.notify_all()

    async def follow(self, key: str, seen: int, timeout: float) -> Update:
        """News of a job: at once where there is any, else as soon as there is, or after ``timeout`` seconds.

        Args:
            key: The job.
            seen: Reports the caller has had.
            timeout: Seconds to wait at most.
        """
        async with self._news:
            entry = self._ledger.entries.get(key)
            if entry is None:
                return Update(state=JobState.CANCELLED, reason=f"job {key} is not known")
            if seen > entry.seen:
                entry.seen = seen
                self._news.notify_all()
            await self._wait_for(lambda: entry.state.ended or len(entry.reports) > seen, timeout)
            return Update(entry.reports[seen:], entry.state, entry.result, entry.reason, entry.attempt)

    async def stop(self, key: str) -> None:
        """End a job: at the end of its epoch where it runs, at once where it waits."""
        async with self._news:
            self._ledger.stop(key)
            self._news.notify_all()

    async def forget(self, key: str) -> None:
        """Drop a job that nobody will ask for again once it has ended, so that memory does not grow with the trials."""
        async with self._news:
            self._ledger.forget(key)

    async def close(self) -> None:
        """Tell every worker to retire."""
        async with self._news:
            self._closed = True
            self._news.notify_all()

    async def groups(self) -> dict[str, str]:
        """Key of the running job, or ``""``, by joined group."""
        running = {entry.owner[0]: key for key, entry in self._ledger.entries.items() if entry.owner is not None}
        return {group: running.get(group, "") for group in self._ledger.incarnations}

    async def problem(self) -> str:
        """Why no group will ever work, e.g. the data does not fit the device; empty while one may."""
        return self._ledger.problem

    # The workers' side.

    async def join(self, group: str, incarnation: str) -> None:
        """Take up a group's new incarnation (rank 0 says so before any rank asks for work)."""
        async with self._news:
            self._ledger.join(group, incarnation)
            self._news.notify_all()

    async def leave(self, group: str) -> None:
        """A group has ended; its jobs go to others, or wait for its next life."""
        async with self._news:
            self._ledger.leave(group)
            self._news.notify_all()

    async def broken(self, group: str, reason: str) -> None:
        """A group cannot work, and would not after a restart either. Its ranks are told to retire."""
        async with self._news:
            self._ledger.leave(group)
            self._ledger.lose(group, reason)
            self._news.notify_all()

    async def take(self, group: str, incarnation: str, count: int, timeout: float) -> Ticket | Retire | None:
        """The next job of a rank that has taken ``count`` jobs; None where none came within ``timeout`` seconds."""
        place = (group, incarnation, count)
        async with self._news:
            await self._wait_for(lambda: self._closed or self._ledger.stale(place) or self._assign(place), timeout)
            if place in self._ledger.tickets:
                return self._ledger.tickets[place]
            return Retire() if self._closed or self._ledger.stale(place) else None

    async def report(self, group: str, incarnation: str, ticket: Ticket, report: dict[str, Any]) -> None:
        """Hear of a finished epoch; one heard before, from the attempt that died, is passed over."""
        async with self._news:
            entry = self._ledger.current(group, incarnation, ticket)
            if entry is None or (entry.reports and report["epoch"] <= entry.reports[-1]["epoch"]):
                return
            entry.reports.append(report)
            self._news.notify_all()

    async def proceed(self, group: str, incarnation: str, ticket: Ticket, epoch: int) -> bool:
        """Whether to go on after an epoch; decided once per attempt and epoch, so all ranks hear the same."""
        async with self._news:
            entry = self._ledger.current(group, incarnation, ticket)
            if entry is None:
                return False
            if entry.job.lockstep:
                await self._wait_for(
                    lambda: (
                        entry.stop
                        or self._closed
                        or entry.owner != (group, incarnation)
                        or epoch in entry.verdicts
                        or entry.seen >= len(entry.reports) - 1
                    ),
                    self._patience,
                )
            if self._ledger.current(group, incarnation, ticket) is not entry:  # taken away while it waited
                return False
            return entry.verdicts.setdefault(epoch, not (entry.stop or self._closed))

    async def finish(self, group: str, incarnation: str, ticket: Ticket, result: dict[str, Any]) -> None:
        """Hear that a job is done, or that it stopped as it was told to."""
        async with self._news:
            entry = self._ledger.current(group, incarnation, ticket)
            if entry is not None:
                entry.result = result
                self._ledger.end(entry, JobState.CANCELLED if result.get("stopped") else JobState.DONE)
                self._news.notify_all()

    async def fail(self, group: str, incarnation: str, ticket: Ticket, reason: str) -> None:
        """Hear that a job cannot be done; it is not tried again."""
        async with self._news:
            entry = self._ledger.current(group, incarnation, ticket)
            if entry is not None:
                self._ledger.end(entry, JobState.FAILED, reason)
                self._news.notify_all()

    def _assign(self, place: tuple[str, str, int]) -> bool:
        """Give a place its next ticket if there is a job; readers of jobs that can never start hear of it."""
        before = self._ledger.waiting
        assigned = self._ledger.assign(place)
        if self._ledger.waiting < before - assigned:
            self._news.notify_all()
        return assigned

    async def _wait_for(self, ready: Callable[[], bool], timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._news.wait_for(ready)
        except TimeoutError:
            return
