"""Entries of the ledger: one job each, with its whole story as the mailbox knows it."""

from dataclasses import dataclass, field

from mtl_search.execution.jobs import Job, JobState, Update
from mtl_search.training.reports import EpochReport, StageResult


@dataclass
class Entry:
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

    def hear(self, report: EpochReport) -> bool:
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
