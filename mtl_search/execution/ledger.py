"""The ledger: which jobs there are, who has each, and what was said of it. The mailbox's memory, without its waiting.

Every change is one plain call, so a job is always in one place: in the queue, with one incarnation of one worker group,
or ended.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from mtl_search.execution.jobs import Job, JobState, Ticket

MAX_ATTEMPTS = 4
"""A job whose workers died this often is failed: it is likely what kills them."""
MAX_BARREN = 5
"""A group that started this often without taking a single job is lost: something else kills it."""

Place = tuple[str, str, int]
"""Group, incarnation, and how many jobs a rank has taken in it: what decides the next ticket."""


@dataclass
class Entry:
    """One job and its story.

    Attributes:
        job: As submitted.
        state: Where it stands.
        attempt: How often it was handed out.
        owner: Group and incarnation that have it now.
        reports: One per epoch, in order.
        seen: Reports that a reader has had.
        stop: Whether it is to end with its epoch.
        forgotten: Whether nobody will ask for it once it has ended.
        verdicts: Go on or not, by epoch, of the current attempt.
        result: Of a finished job.
        reason: Why it failed.
    """

    job: Job
    state: JobState = JobState.WAITING
    attempt: int = 0
    owner: tuple[str, str] | None = None
    reports: list[dict[str, Any]] = field(default_factory=list)
    seen: int = 0
    stop: bool = False
    forgotten: bool = False
    verdicts: dict[int, bool] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    reason: str = ""

    def end(self, state: JobState, reason: str = "") -> None:
        """Nothing more will come of it."""
        self.state, self.reason, self.owner = state, reason, None


class Ledger:
    """See the module.

    Args:
        groups: Worker groups that are to come.

    Attributes:
        entries: Job by key.
        incarnations: The living incarnation by group.
        tickets: What was handed out, by place.
    """

    def __init__(self, groups: int) -> None:
        self.entries: dict[str, Entry] = {}
        self.incarnations: dict[str, str] = {}
        self.tickets: dict[Place, Ticket] = {}
        self._queue: deque[str] = deque()
        self._groups = groups
        self._lost: dict[str, str] = {}
        self._barren: Counter[str] = Counter()

    @property
    def problem(self) -> str:
        """Why no group will ever work; empty while one may."""
        return next(iter(self._lost.values())) if len(self._lost) >= self._groups else ""

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._queue)

    def add(self, job: Job) -> None:
        """Queue a job. One whose key is known is the same job, unless it was cancelled: then it goes on."""
        entry = self.entries.get(job.key)
        if entry is not None and entry.state is not JobState.CANCELLED:
            entry.stop = entry.forgotten = False
            return
        self.entries[job.key] = Entry(job)
        self._queue.append(job.key)

    def stop(self, key: str) -> None:
        """End a job with its epoch where it runs, at once where it waits."""
        entry = self.entries.get(key)
        if entry is None or entry.state.ended:
            return
        entry.stop = True
        if entry.state is JobState.WAITING:
            self._queue.remove(key)
            self.end(entry, JobState.CANCELLED)

    def forget(self, key: str) -> None:
        """Drop a job, now or as soon as it has ended."""
        entry = self.entries.get(key)
        if entry is None:
            return
        entry.forgotten = True
        if entry.state.ended:
            del self.entries[key]

    def end(self, entry: Entry, state: JobState, reason: str = "") -> None:
        """Close a job's story."""
        entry.end(state, reason)
        if entry.forgotten:
            del self.entries[entry.job.key]

    def join(self, group: str, incarnation: str) -> None:
        """Take up a group's new incarnation; what the one before it had goes back."""
        self.take_back(group)
        self.incarnations[group] = incarnation
        self._barren[group] += 1
        if self._barren[group] > MAX_BARREN:
            self.lose(group, f"worker group {group} died {MAX_BARREN} times before it could take a job")

    def leave(self, group: str) -> None:
        """A group's incarnation has ended; what it had goes back."""
        self.take_back(group)
        self.incarnations.pop(group, None)

    def lose(self, group: str, reason: str) -> None:
        """A group does not get to work. Once all are lost, jobs end where they are; a group that takes one is found."""
        self._lost[group] = reason
        if self.problem:
            self._queue.clear()
            for entry in [entry for entry in self.entries.values() if not entry.state.ended]:
                self.end(entry, JobState.CANCELLED, self.problem)

    def stale(self, place: Place) -> bool:
        """Whether a newer incarnation, or none, has taken the place of the one that asks."""
        return self.incarnations.get(place[0]) != place[1]

    def assign(self, place: Place) -> bool:
        """Hand the first job that can start to a place, unless the place has one already; whether it has one now."""
        if place in self.tickets:
            return True
        for key in list(self._queue):
            entry = self.entries[key]
            lacking = self._lacking(entry.job)
            if lacking:
                self._queue.remove(key)
                self.end(entry, JobState.FAILED, lacking)
            elif all(self.entries[need].state is JobState.DONE for need in entry.job.needs):
                self._queue.remove(key)
                self._hand_out(entry, place)
                return True
        return False

    def current(self, group: str, incarnation: str, ticket: Ticket) -> Entry | None:
        """The job a worker speaks of, unless somebody else has it by now."""
        entry = self.entries.get(ticket.job.key)
        if entry is None or entry.owner != (group, incarnation) or entry.attempt != ticket.attempt:
            return None
        return entry

    def take_back(self, group: str) -> None:
        """Return a group's unfinished job to the front of the queue."""
        for key, entry in list(self.entries.items()):
            if entry.owner is None or entry.owner[0] != group:
                continue
            entry.owner = None
            if entry.stop:
                self.end(entry, JobState.CANCELLED)
            elif entry.attempt >= MAX_ATTEMPTS:
                self.end(entry, JobState.FAILED, f"its worker died {entry.attempt} times")
            else:
                entry.state = JobState.WAITING
                self._queue.appendleft(key)
        self.tickets = {place: ticket for place, ticket in self.tickets.items() if place[0] != group}

    def _hand_out(self, entry: Entry, place: Place) -> None:
        group, incarnation, count = place
        entry.attempt += 1
        entry.state, entry.owner = JobState.RUNNING, (group, incarnation)
        entry.verdicts.clear()
        self.tickets[place] = Ticket(entry.job, entry.attempt)
        self.tickets.pop((group, incarnation, count - 2), None)  # every rank has taken the one after it by now
        self._barren.pop(group, None)
        self._lost.pop(group, None)

    def _lacking(self, job: Job) -> str:
        """Why a job can never start; empty if it may."""
        for need in job.needs:
            entry = self.entries.get(need)
            if entry is None or entry.state in (JobState.FAILED, JobState.CANCELLED):
                return entry.reason if entry is not None and entry.reason else f"needs job {need}, which is not there"
        return ""
