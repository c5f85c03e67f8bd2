"""The job table: all jobs, the worker group of each, and its reports. It is the memory of the job queue.

Every change is one plain call, so a job is always in one place: in the queue, with one incarnation of one worker group,
or ended.
"""

from collections import Counter, deque
from dataclasses import dataclass, field

from mtl_search.pool.jobs import DIED, Job, JobState, Lease, Update, fault_reason
from mtl_search.storage.reports import EpochReport, StageResult


@dataclass
class JobRecord:
    """One job and its story.

    Attributes:
        job: As submitted.
        state: Where it stands.
        attempt: How often it was handed out.
        owner: Group and incarnation that have it now.
        reports: One per epoch, in order.
        seen: The epoch that a reader waits for.
        stop: Whether it is to end with its epoch.
        forgotten: Whether nobody will ask for it once it has ended.
        verdicts: Go on or not, by epoch, of the current attempt.
        result: Of a finished job.
        reason: Why it failed.
        faults: How often in a row its workers were lost before they had finished an epoch.
        silence: Seconds since it was handed out or last heard of.
    """

    job: Job
    state: JobState = JobState.WAITING
    attempt: int = 0
    owner: tuple[str, str] | None = None
    reports: list[EpochReport] = field(default_factory=list)
    seen: int = 0
    stop: bool = False
    forgotten: bool = False
    verdicts: dict[int, bool] = field(default_factory=dict)
    result: StageResult | None = None
    reason: str = ""
    faults: int = 0
    silence: float = 0.0

    @property
    def heard(self) -> int:
        """The epoch that is to be reported next."""
        return self.reports[-1].epoch + 1 if self.reports else 0

    def end(self, state: JobState, reason: str = "") -> None:
        """Nothing more will come of it."""
        self.state, self.reason, self.owner = state, reason, None

    def on_report(self, report: EpochReport) -> bool:
        """Take an epoch's report; whether it is new, and not heard before from an attempt that died."""
        self.silence = 0.0
        new = report.epoch >= self.heard
        if new:
            self.reports.append(report)
            self.faults = 0
        return new

    def news(self, epoch: int) -> Update:
        """What there is to tell a reader who waits for an epoch."""
        reports = [report for report in self.reports if report.epoch >= epoch]
        return Update(reports, self.state, self.result, self.reason, self.attempt)


MAX_BARREN = 5
"""A group that started this often without taking a single job is lost: something else kills it."""

WorkerRank = tuple[str, str, int]
"""Group, incarnation, and how many jobs a rank has taken in it: what decides the next lease."""


class JobTable:
    """See the module.

    Args:
        groups: Worker groups that are to come.
        max_retries: How often in a row a job may lose its workers and be tried again.

    Attributes:
        groups: Worker groups that there are, or are to come.
        entries: Job by key.
        incarnations: The living incarnation by group.
        leases: What was handed out, by place.
    """

    def __init__(self, groups: int, max_retries: int = 3) -> None:
        self.groups = groups
        self.entries: dict[str, JobRecord] = {}
        self.incarnations: dict[str, str] = {}
        self.leases: dict[WorkerRank, Lease] = {}
        self._queue: deque[str] = deque()
        self._max_retries = max_retries
        self._known: set[tuple[str, str]] = set()
        self._lost: dict[str, str] = {}
        self._broken: dict[str, str] = {}
        self._hopeless = ""
        self._fruitful: set[str] = set()
        self._barren: Counter[str] = Counter()

    @property
    def problem(self) -> str:
        """Why no group will ever work; empty while one may."""
        lost = self._lost | self._broken
        return next(iter(lost.values())) if lost and len(lost) >= self.groups else self._hopeless

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
        self.entries[job.key] = JobRecord(job)
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

    def end(self, entry: JobRecord, state: JobState, reason: str = "") -> None:
        """Close a job's story."""
        entry.end(state, reason)
        if entry.forgotten:
            del self.entries[entry.job.key]

    def join(self, group: str, incarnation: str) -> None:
        """Take up a group's new incarnation; what the one before it had goes back."""
        self.take_back(group, DIED)
        self.incarnations[group] = incarnation
        self._known.add((group, incarnation))
        self._barren[group] += 1
        if self._barren[group] > MAX_BARREN:
            self.lose(group, f"worker group {group} died {MAX_BARREN} times before it could take a job")

    def leave(self, group: str, fault: str = "") -> None:
        """A group's incarnation has ended; what it had goes back.

        Args:
            group: Its name.
            fault: What ended it; empty where nothing went wrong.
        """
        self.take_back(group, fault)
        self.incarnations.pop(group, None)

    def worked(self, group: str) -> bool:
        """Whether a group has taken a job since this was last asked."""
        worked = group in self._fruitful
        self._fruitful.discard(group)
        return worked

    def lose(self, group: str, reason: str) -> None:
        """A group does not get to work. Once all are lost, jobs end where they are; a group that takes one is found."""
        self._lost[group] = reason
        if self.problem:
            self._end_all()

    def fail(self, group: str, reason: str) -> None:
        """What a group needs is not there, such as room in the storage: it is lost until it gets a job further.

        Taking a job is not enough: each group would take it in turn, and none would ever keep what it trained.
        """
        self._broken[group] = reason
        if self.problem:
            self._end_all()

    def on_report(self, entry: JobRecord, report: EpochReport) -> None:
        """Take an epoch's report; one heard before, from the attempt that died, is passed over."""
        if entry.on_report(report) and entry.owner is not None:
            self._broken.pop(entry.owner[0], None)

    def give_up(self, reason: str) -> None:
        """No group is left, and none will come."""
        self._hopeless = reason
        self._end_all()

    def _end_all(self) -> None:
        self._queue.clear()
        for entry in [entry for entry in self.entries.values() if not entry.state.ended]:
            self.end(entry, JobState.CANCELLED, self.problem)

    def stale(self, place: WorkerRank) -> bool:
        """Whether a newer incarnation, or none, has taken the place of the one that asks."""
        return self.incarnations.get(place[0]) != place[1]

    def knows(self, group: str, incarnation: str) -> bool:
        """Whether an incarnation of a group has ever joined."""
        return (group, incarnation) in self._known

    def silent(self, passed: float, limit: float) -> list[str]:
        """Groups whose job was not heard of for too long.

        Args:
            passed: Seconds since this was last asked.
            limit: Seconds that a job may be silent.
        """
        running = [entry for entry in self.entries.values() if entry.owner is not None]
        for entry in running:
            entry.silence += passed
        return [entry.owner[0] for entry in running if entry.owner is not None and entry.silence > limit]

    def assign(self, place: WorkerRank) -> bool:
        """Hand the first job that can start to a place, unless the place has one already; whether it has one now."""
        if place in self.leases:
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

    def current(self, group: str, incarnation: str, lease: Lease) -> JobRecord | None:
        """The job a worker speaks of, unless somebody else has it by now."""
        entry = self.entries.get(lease.job.key)
        if entry is None or entry.owner != (group, incarnation) or entry.attempt != lease.attempt:
            return None
        return entry

    def take_back(self, group: str, fault: str = "") -> None:
        """Return a group's unfinished job to the front of the queue; one lost too often in a row has failed."""
        for key, entry in list(self.entries.items()):
            if entry.owner is None or entry.owner[0] != group:
                continue
            entry.owner = None
            entry.faults += bool(fault)
            if entry.stop:
                self.end(entry, JobState.CANCELLED)
            elif entry.faults > self._max_retries:
                self.end(entry, JobState.FAILED, fault_reason(fault, entry.faults))
            else:
                entry.state = JobState.WAITING
                self._queue.appendleft(key)
        self.leases = {place: lease for place, lease in self.leases.items() if place[0] != group}

    def finish(self, entry: JobRecord, result: StageResult, closing: bool) -> None:
        """Take a job's result; one that stopped though nobody asked for it gave way for its group's sake, and goes on.

        Args:
            entry: The job.
            result: As its group tells it.
            closing: Whether every job is to stop.
        """
        if result.stopped and not (entry.stop or closing):
            entry.state, entry.owner = JobState.WAITING, None
            self._queue.appendleft(entry.job.key)
            return
        if entry.owner is not None:
            self._broken.pop(entry.owner[0], None)
        entry.result = result
        self.end(entry, JobState.CANCELLED if result.stopped else JobState.DONE)

    def running(self) -> dict[str, str]:
        """Key of the running job, or ``""``, by joined group."""
        running = {entry.owner[0]: key for key, entry in self.entries.items() if entry.owner is not None}
        return {group: running.get(group, "") for group in self.incarnations}

    def _hand_out(self, entry: JobRecord, place: WorkerRank) -> None:
        group, incarnation, count = place
        entry.attempt += 1
        entry.state, entry.owner, entry.silence = JobState.RUNNING, (group, incarnation), 0.0
        entry.verdicts.clear()
        self.leases[place] = Lease(entry.job, entry.attempt)
        self.leases.pop((group, incarnation, count - 2), None)  # every rank has taken the one after it by now
        self._fruitful.add(group)
        self._barren.pop(group, None)
        self._lost.pop(group, None)

    def _lacking(self, job: Job) -> str:
        """Why a job can never start; empty if it may."""
        for need in job.needs:
            entry = self.entries.get(need)
            if entry is None or entry.state in (JobState.FAILED, JobState.CANCELLED):
                return entry.reason if entry is not None and entry.reason else f"needs job {need}, which is not there"
        return ""
