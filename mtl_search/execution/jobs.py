"""Jobs and what the mailbox says of them: plain data between driver, trainables, mailbox and workers."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mtl_search.errors import TrialError
from mtl_search.training.reports import EpochReport, StageResult


class JobState(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of the job."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class Job:
    """Something to train.

    Attributes:
        key: Content key. A key submitted twice is one job (single-flight).
        payload: What the worker carries out, a ``training.stages.Stage``; opaque to the mailbox.
        needs: Keys of jobs that must be done before this one starts.
        lockstep: Whether a reader follows epoch by epoch; the job then runs at most one epoch ahead of it.
    """

    key: str
    payload: Any
    needs: tuple[str, ...] = ()
    lockstep: bool = False


@dataclass(frozen=True)
class Ticket:
    """A job as handed to one incarnation of a worker group; the same to each of its ranks.

    Attributes:
        job: What to do.
        attempt: How often the job was handed out, this time included.
    """

    job: Job
    attempt: int


@dataclass(frozen=True)
class Retire:
    """Told to a worker that has nothing more to do: the study ended, or a newer incarnation took its place."""


@dataclass(frozen=True)
class Rejoin:
    """Told to a worker that a dispatcher does not know: it was started anew and its memory is gone."""


@dataclass(frozen=True)
class Update:
    """News of a job since a reader's last look.

    Attributes:
        reports: Epoch reports not yet seen, in order.
        state: Where the job stands.
        result: The finished job's result.
        reason: Why the job failed.
        attempts: How often the job was handed to a worker group.
    """

    reports: list[EpochReport] = field(default_factory=list)
    state: JobState = JobState.WAITING
    result: StageResult | None = None
    reason: str = ""
    attempts: int = 0


class JobError(TrialError):
    """A job failed; the message is its reason."""
