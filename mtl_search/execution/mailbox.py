"""The mailbox: job queue, reports and stop requests between the search and the worker groups.

Runs as one small async Ray actor, the dispatcher, and as a plain object in tests. It hands out jobs and keeps what
is said of them; placement, process groups, restarts and resources stay Ray's.

Every rank of a group asks for itself. What a rank is told depends on (group, incarnation, how many jobs it has taken)
and is decided once, so ranks agree without a collective. An incarnation is one life of a group's processes: after a
restart the group joins anew, its unfinished jobs go back to the queue's front, and whatever the dead incarnation still
says is not heard.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from mtl_search.execution.jobs import Job, JobState, Retire, Ticket, Update

MAX_ATTEMPTS = 4
"""A job whose workers died this often is failed: it is likely what kills them."""
LOCKSTEP_PATIENCE = 15.0
"""Seconds after which a job no longer waits for its reader (which may have died and come back)."""


@dataclass
class _Entry:
    job: Job
    state: JobState = JobState.WAITING
    attempt: int = 0
    owner: tuple[str, str] | None = None
    reports: list[dict[str, Any]] = field(default_factory=list)
    seen: int = 0
    stop: bool = False
    verdicts: dict[int, bool] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    reason: str = ""

    def fail(self, reason: str) -> None:
        self.state, self.reason, self.owner = JobState.FAILED, reason, None


class Mailbox:
    """See the module. All methods are coroutines, run one at a time between their waits."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._queue: deque[str] = deque()
        self._incarnations: dict[str, str] = {}
        self._tickets: dict[tuple[str, str, int], Ticket] = {}
        self._closed = False
        self._problem = ""
        self._news = asyncio.Condition()

    # The search's side.

    async def submit(self, job: Job) -> None:
        """Queue a job; one whose key is known already is the same job, whatever has become of it."""
        async with self._news:
            if job.key in self._entries:
                return
            self._entries[job.key] = _Entry(job)
            self._queue.append(job.key)
            self._news.notify_all()

    async def follow(self, key: str, seen: int, timeout: float) -> Update:
        """News of a job: at once where there is any, else as soon as there is, or after ``timeout`` seconds.

        Args:
            key: The job.
            seen: Reports the caller has had.
            timeout: Seconds to wait at most.
        """
        async with self._news:
            entry = self._entries[key]
            if seen > entry.seen:
                entry.seen = seen
                self._news.notify_all()
            await self._wait_for(lambda: entry.state.ended or len(entry.reports) > seen, timeout)
            return Update(entry.reports[seen:], entry.state, entry.result, entry.reason, entry.attempt)

    async def stop(self, key: str) -> None:
        """End a job: at the end of its epoch where it runs, at once where it waits."""
        async with self._news:
            entry = self._entries.get(key)
            if entry is None or entry.state.ended:
                return
            entry.stop = True
            if entry.state is JobState.WAITING:
                entry.state = JobState.CANCELLED
                self._queue.remove(key)
            self._news.notify_all()

    async def forget(self, key: str) -> None:
        """Drop an ended job that nobody will ask for again, so that memory does not grow with finished trials."""
        async with self._news:
            entry = self._entries.get(key)
            if entry is not None and entry.state.ended:
                del self._entries[key]

    async def close(self) -> None:
        """Tell every worker to retire."""
        async with self._news:
            self._closed = True
            self._news.notify_all()

    async def groups(self) -> dict[str, str]:
        """Key of the running job, or ``""``, by joined group."""
        running = {
            e.owner[0]: key for key, e in self._entries.items() if e.state is JobState.RUNNING and e.owner is not None
        }
        return {group: running.get(group, "") for group in self._incarnations}

    async def problem(self) -> str:
        """Why no group can ever work, e.g. the data does not fit the device; empty if all is well."""
        return self._problem

    # The workers' side.

    async def join(self, group: str, incarnation: str) -> None:
        """Take up a group's new incarnation (rank 0 says so before any rank asks for work)."""
        async with self._news:
            self._take_back(group)
            self._incarnations[group] = incarnation
            self._news.notify_all()

    async def leave(self, group: str) -> None:
        """Forget a group that will not come back; its jobs go to others."""
        async with self._news:
            self._take_back(group)
            self._incarnations.pop(group, None)
            self._news.notify_all()

    async def broken(self, group: str, reason: str) -> None:
        """A group cannot even start to work, and would not after a restart either."""
        async with self._news:
            self._problem = self._problem or f"worker group {group} cannot start: {reason}"
            self._news.notify_all()

    async def take(self, group: str, incarnation: str, count: int, timeout: float) -> Ticket | Retire | None:
        """The next job of a rank that has taken ``count`` jobs; None where none came within ``timeout`` seconds."""
        place = (group, incarnation, count)
        async with self._news:
            await self._wait_for(lambda: self._closed or self._stale(place) or self._assign(place), timeout)
            if place in self._tickets:
                return self._tickets[place]
            return Retire() if self._closed or self._stale(place) else None

    async def report(self, group: str, incarnation: str, ticket: Ticket, report: dict[str, Any]) -> None:
        """Hear of a finished epoch."""
        async with self._news:
            entry = self._current(group, incarnation, ticket)
            if entry is None or (entry.reports and report["epoch"] <= entry.reports[-1]["epoch"]):
                return
            entry.reports.append(report)
            self._news.notify_all()

    async def proceed(self, group: str, incarnation: str, ticket: Ticket, epoch: int) -> bool:
        """Whether to go on after an epoch; decided once per attempt and epoch, so all ranks hear the same."""
        async with self._news:
            entry = self._current(group, incarnation, ticket)
            if entry is None:
                return False
            if entry.job.lockstep:
                await self._wait_for(
                    lambda: (
                        entry.stop or self._closed or epoch in entry.verdicts or entry.seen >= len(entry.reports) - 1
                    ),
                    LOCKSTEP_PATIENCE,
                )
            return entry.verdicts.setdefault(epoch, not (entry.stop or self._closed))

    async def finish(self, group: str, incarnation: str, ticket: Ticket, result: dict[str, Any]) -> None:
        """Hear that a job is done."""
        async with self._news:
            entry = self._current(group, incarnation, ticket)
            if entry is not None:
                entry.state = JobState.CANCELLED if result.get("stopped") else JobState.DONE
                entry.result, entry.owner = result, None
                self._news.notify_all()

    async def fail(self, group: str, incarnation: str, ticket: Ticket, reason: str) -> None:
        """Hear that a job cannot be done; it is not tried again."""
        async with self._news:
            entry = self._current(group, incarnation, ticket)
            if entry is not None:
                entry.fail(reason)
                self._news.notify_all()

    async def _wait_for(self, ready: Any, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._news.wait_for(ready)
        except TimeoutError:
            return

    def _stale(self, place: tuple[str, str, int]) -> bool:
        return self._incarnations.get(place[0]) != place[1]

    def _assign(self, place: tuple[str, str, int]) -> bool:
        if place in self._tickets:
            return True
        for key in list(self._queue):
            entry = self._entries[key]
            lacking = self._lacking(entry.job)
            if lacking:
                self._queue.remove(key)
                entry.fail(lacking)
                self._news.notify_all()
            elif all(self._entries[need].state is JobState.DONE for need in entry.job.needs):
                self._queue.remove(key)
                self._hand_out(entry, place)
                return True
        return False

    def _hand_out(self, entry: _Entry, place: tuple[str, str, int]) -> None:
        group, incarnation, count = place
        entry.attempt += 1
        entry.state, entry.owner = JobState.RUNNING, (group, incarnation)
        entry.verdicts.clear()
        self._tickets[place] = Ticket(entry.job, entry.attempt)
        self._tickets.pop((group, incarnation, count - 2), None)  # every rank has taken the one after it by now

    def _lacking(self, job: Job) -> str:
        """Why a job can never start, empty if it can."""
        for need in job.needs:
            entry = self._entries.get(need)
            if entry is None or entry.state in (JobState.FAILED, JobState.CANCELLED):
                return entry.reason if entry is not None and entry.reason else f"needs job {need}, which is not there"
        return ""

    def _current(self, group: str, incarnation: str, ticket: Ticket) -> _Entry | None:
        """The job a worker speaks of, unless somebody else has it by now."""
        entry = self._entries.get(ticket.job.key)
        if entry is None or entry.owner != (group, incarnation) or entry.attempt != ticket.attempt:
            return None
        return entry

    def _take_back(self, group: str) -> None:
        """Return a group's unfinished jobs to the front of the queue."""
        for key, entry in self._entries.items():
            if entry.owner is None or entry.owner[0] != group or entry.state.ended:
                continue
            entry.owner = None
            if entry.attempt >= MAX_ATTEMPTS:
                entry.fail(f"its worker died {entry.attempt} times")
            elif entry.stop:
                entry.state = JobState.CANCELLED
            else:
                entry.state = JobState.WAITING
                self._queue.appendleft(key)
        self._tickets = {place: ticket for place, ticket in self._tickets.items() if place[0] != group}
