"""Typed calls of the job queue, the one async actor of a study: every caller of it goes through these two clients.

Each call waits for the answer. A client holds little more than the actor's handle, so it travels to other processes.
"""

from collections.abc import Sequence
from typing import Any, final

import ray

from mtl_search.pool.jobs import Job, Lease, Reregister, Shutdown, Update
from mtl_search.storage.reports import EpochReport, StageResult

POLL_SECONDS = 20.0
"""Length of one long poll for the next job."""


@final
class JobQueueClient:
    """The search's side of the job queue, and that of a worker group's controller.

    Args:
        actor: Handle of the job queue's actor.

    A call raises ``ray.exceptions.RayActorError`` where the actor is gone.
    """

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def begin(self, groups: int, jobs: Sequence[Job]) -> None:
        """Take up work, or in a new life take it up again: so many groups, and these jobs."""
        ray.get(self.actor.begin.remote(groups, list(jobs)))

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs, those that others need first."""
        ray.get(self.actor.submit.remote(*jobs))

    def follow(self, key: str, seen: int, timeout: float) -> Update:
        """News of a job.

        Args:
            key: The job.
            seen: The epoch that the caller waits for.
            timeout: Seconds to wait at most.
        """
        update: Update = ray.get(self.actor.follow.remote(key, seen, timeout))
        return update

    def follow_all(self, wanted: Sequence[tuple[str, int]], timeout: float) -> list[Update]:
        """News of several jobs, all waited for at the same time.

        Args:
            wanted: Each job's key, and the epoch that the caller waits for.
            timeout: Seconds to wait at most.
        """
        updates: list[Update] = ray.get([self.actor.follow.remote(key, seen, timeout) for key, seen in wanted])
        return updates

    def stop(self, key: str, forget: Sequence[str] = ()) -> None:
        """Stop a job, and forget other ones once they have ended."""
        forgotten = [self.actor.forget.remote(each) for each in forget]
        ray.get([self.actor.stop.remote(key), *forgotten])

    def problem(self) -> str:
        """Why no group will ever work; empty while one may."""
        reason: str = ray.get(self.actor.problem.remote())
        return reason

    def groups(self) -> dict[str, str] | None:
        """Key of the running job, or ``""``, by joined group; None in a life that has not begun."""
        running: dict[str, str] | None = ray.get(self.actor.groups.remote())
        return running

    def give_up(self, reason: str) -> None:
        """End every job: there is nobody left to do it."""
        ray.get(self.actor.give_up.remote(reason))

    def close(self) -> None:
        """Tell every worker to retire."""
        ray.get(self.actor.close.remote())

    def leave(self, group: str) -> tuple[bool, Any]:
        """A group's run has ended; whether it took a job in it, and the room that it had."""
        worked, room = ray.get(self.actor.leave.remote(group))
        return bool(worked), room

    def report_broken(self, group: str, reason: str) -> None:
        """A group cannot work, and would not after a restart either."""
        ray.get(self.actor.broken.remote(group, reason))

    def report_down(self, group: str, fault: str = "") -> None:
        """A group's workers are gone, by a fault or not."""
        ray.get(self.actor.down.remote(group, fault))

    def settle(self, group: str, room: Any) -> None:
        """Say what a group's workers are placed by."""
        ray.get(self.actor.settle.remote(group, room))

    def rest(self, group: str, timeout: float) -> bool:
        """Have a group give back its job at the end of the epoch; whether it has, or is gone."""
        rests: bool = ray.get(self.actor.rest.remote(group, timeout))
        return rests


class DroppedJobError(Exception):
    """The job queue was started anew and does not know this group: what it does is another's to do again."""


@final
class WorkerQueueClient:
    """One rank's side of the job queue, under the name of its group and incarnation.

    Args:
        queue: The job queue.
        group: Name of the worker group.
        incarnation: Name of this life of the group's processes.

    Attributes:
        group: Name of the worker group.

    Each call raises ``DroppedJobError`` where the job queue does not know this incarnation.
    """

    def __init__(self, queue: JobQueueClient, group: str, incarnation: str) -> None:
        self._queue, self._who = queue, (group, incarnation)
        self.group = group
        self._taken = 0

    def join(self) -> None:
        """Take up this incarnation; rank 0 says so before any rank asks for work."""
        self._answer(self._queue.actor.join.remote(*self._who))

    def enrol(self, worker: Any) -> None:
        """Name this worker's actor, which is killed where it hangs."""
        self._answer(self._queue.actor.enrol.remote(*self._who, worker))

    def take(self) -> Lease | Shutdown:
        """Wait for the next job."""
        while True:
            call = self._queue.actor.take.remote(*self._who, self._taken, POLL_SECONDS)
            lease: Lease | Shutdown | None = self._answer(call)
            if lease is not None:
                self._taken += 1
                return lease

    def report(self, lease: Lease, report: EpochReport) -> None:
        """Tell of a finished epoch."""
        self._answer(self._queue.actor.report.remote(*self._who, lease, report))

    def proceed(self, lease: Lease, epoch: int) -> bool:
        """Whether to go on after an epoch."""
        return bool(self._answer(self._queue.actor.proceed.remote(*self._who, lease, epoch)))

    def finish(self, lease: Lease, result: StageResult) -> None:
        """Tell that a job is done, or that it stopped as it was told to."""
        self._answer(self._queue.actor.finish.remote(*self._who, lease, result))

    def fail(self, lease: Lease, reason: str) -> None:
        """Tell that a job cannot be done."""
        self._answer(self._queue.actor.fail.remote(*self._who, lease, reason))

    def report_broken(self, why: str) -> None:
        """Tell that this group cannot work."""
        self._queue.report_broken(self.group, f"worker group {self.group} {why}")

    def _answer(self, call: Any) -> Any:
        answer = ray.get(call)
        if isinstance(answer, Reregister):
            raise DroppedJobError(f"worker group {self.group} is not known to the job queue")
        return answer
