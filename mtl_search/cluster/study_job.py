"""StudyJob: a study's Ray job as the job server lists it, and what its metadata says of the study."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

STUDY = "mtl_search.study"
"""Key of a job's metadata: the study's name."""
AGAIN = "mtl_search.again"
"""The command that goes on with it."""
STORAGE = "mtl_search.storage"
"""Where it lies."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Text from a cluster without what would steer this terminal."""
    return _CONTROL.sub("", text)


@dataclass(frozen=True)
class StudyJob:
    """A study's job.

    Attributes:
        id: Its submission's.
        state: ``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED`` or ``STOPPED``.
        message: Why it is in this state, as Ray puts it.
        started: Seconds since the epoch; None before.
        ended: The same of its end.
        again: The command that goes on with the study; empty where it was submitted by other means.
        storage: Where the study lies; empty as above.
        exit_code: Of its command, where that ended by itself.
    """

    id: str
    state: str
    message: str
    started: float | None
    ended: float | None
    again: str
    storage: str
    exit_code: int | None

    @property
    def ongoing(self) -> bool:
        """Whether it has not ended."""
        from ray.job_submission import JobStatus

        return not JobStatus(self.state).is_terminal()

    def last_at_work(self) -> tuple[bool, float]:
        """What jobs of a study are sorted by: one that was refused beside another has ended before that."""
        return self.ongoing, self.ended or self.started or 0.0

    @classmethod
    def of(cls, details: "JobDetails") -> "StudyJob":
        """A job as Ray's server lists it."""
        notes = details.metadata or {}
        return cls(
            id=details.submission_id or "",
            state=str(details.status),
            message=printable(details.message or ""),
            started=None if details.start_time is None else details.start_time / 1000,
            ended=None if not details.end_time else details.end_time / 1000,
            again=printable(notes.get(AGAIN, "")),
            storage=printable(notes.get(STORAGE, "")),
            exit_code=details.driver_exit_code,
        )
