"""Jobs and what the job queue says of them: plain data between driver, trainables, job queue and workers."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mtl_search.errors import TrialError
from mtl_search.storage.reports import EpochReport, StageResult


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
        payload: What the worker carries out, a ``training.stages.Stage``; opaque to the job queue.
        needs: Keys of jobs that must be done before this one starts.
        lockstep: Whether a reader follows epoch by epoch; the job then runs at most one epoch ahead of it.
    """

    key: str
    payload: Any
    needs: tuple[str, ...] = ()
    lockstep: bool = False


@dataclass(frozen=True)
class Lease:
    """A job as handed to one incarnation of a worker group; the same to each of its ranks.

    Attributes:
        job: What to do.
        attempt: How often the job was handed out, this time included.
    """

    job: Job
    attempt: int


@dataclass(frozen=True)
class Shutdown:
    """Told to a worker that has nothing more to do: the study ended, or a newer incarnation took its place."""


@dataclass(frozen=True)
class Reregister:
    """Told to a worker that a job queue does not know: it was started anew and its memory is gone."""


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


DIED = "its worker died"
NODE_LOST = "its node was lost"
OUT_OF_MEMORY = "its worker was killed because the node ran out of memory"
LESS_MEMORY = "a smaller batch_size, more workers per trial or a smaller backbone needs less memory"
_NODE_SIGNS = ("node was terminated", "node has died", "node died", "node failure", "its node is dead")
_MEMORY_SIGNS = ("can't allocate memory", "cannot allocate memory", "out of memory", "bad_alloc")


def silence_reason(seconds: float) -> str:
    """Nothing was heard of a job for so long that its workers must hang."""
    return f"it reported nothing for {seconds:g} s (resources.report_timeout)"


def fault_of(words: str) -> str:
    """Which fault ended a worker, from what Ray says of it."""
    words = words.lower()
    if "outofmemoryerror" in words or "memory monitor" in words or "running low on memory" in words:
        return OUT_OF_MEMORY
    return NODE_LOST if any(sign in words for sign in _NODE_SIGNS) else DIED


def fault_reason(fault: str, times: int) -> str:
    """Why a job is given up.

    Args:
        fault: The last one.
        times: How many came in a row, with no epoch finished between them.
    """
    reason = f"{fault}, {times} times in a row" if times > 1 else fault
    if fault == DIED:
        return f"{reason}; if it was killed for want of memory, {LESS_MEMORY}"
    return f"{reason}; {LESS_MEMORY}" if fault == OUT_OF_MEMORY else reason


def lacks_memory(error: BaseException) -> bool:
    """Whether memory ran out in a worker that can go on: torch has a type of its own for GPUs alone."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _MEMORY_SIGNS)
