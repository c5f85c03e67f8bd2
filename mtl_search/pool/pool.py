"""The pool: warm worker groups, each one long-lived Ray Train run, started once per study.

The search submits jobs to the pool's job queue and follows them there. A group that dies comes back by Ray Train's own
restarts; its job goes on from the job's last checkpoint, in whichever group is free first.
"""

import logging
import pickle
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mtl_search.config.study_config import ResourcesConfig
from mtl_search.errors import StudyError
from mtl_search.pool.autoscaler import Autoscaler
from mtl_search.pool.group_trainer import GroupTrainer
from mtl_search.pool.job_pool import JobListener, results_of
from mtl_search.pool.job_queue import JobQueue
from mtl_search.pool.jobs import Job, JobState, Update
from mtl_search.pool.pool_monitor import PoolMonitor
from mtl_search.pool.queue_client import JobQueueClient
from mtl_search.pool.ray_cluster import worker_needs
from mtl_search.pool.storage_check import StudyLocation
from mtl_search.pool.worker_groups import WorkerGroups
from mtl_search.storage.reports import StageResult
from mtl_search.training.workspace import Workload

JOIN_TIMEOUT = 300.0
"""Seconds without a single worker group until that is an error."""
CLOSE_TIMEOUT = 30.0
"""Seconds the groups get to end their epoch; what still runs then ends with its next word to the job queue."""
_MOST_SPARE = 256
"""Single-task models and bases that the job queue knows though no job that waits or runs needs them."""
_log = logging.getLogger(__name__)


class Pool:
    """Worker groups and the job queue that feeds them.

    Args:
        workload: Sent to every worker once.
        resources: What a group is made of.
        groups: How many groups to start at first.
        folder: Where Ray Train keeps its run files.
        name: The study's name, for Ray's own records.
        location: Its folder in the storage, which every worker must reach; None for none.
        most: How many groups it may have: it grows with the cluster; None for as many as at first.
        patience: Seconds without a single group until that is an error.

    Attributes:
        resources: What a group is made of.
        queue: The job queue.
    """

    def __init__(
        self,
        workload: Workload,
        resources: ResourcesConfig,
        groups: int,
        folder: Path,
        name: str,
        location: StudyLocation | None = None,
        most: int | None = None,
        patience: float = JOIN_TIMEOUT,
    ) -> None:
        actor: Any = ray.remote(JobQueue)
        # On the driver's node, with which it may go; what is asked of it while it starts again is asked again.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_concurrency": 1000, "max_restarts": -1, "max_task_retries": -1}
        self.queue = JobQueueClient(
            actor.options(**options, scheduling_strategy=here).remote(
                groups, max_retries=resources.max_retries, report_timeout=resources.report_seconds, begun=False
            )
        )
        self.resources, self._first = resources, groups
        self._groups = WorkerGroups(
            self.queue,
            lambda group: GroupTrainer(group, self.queue, self._workload, resources, folder, name, location),
        )
        most = groups if most is None else most
        growth = Autoscaler(resources.fewest_workers, worker_needs(resources), groups, most, self._groups.add)
        self._grows = most > groups
        self._care = PoolMonitor(
            self.queue, self._groups, growth if self._grows else None, self._begin, resources, patience
        )
        self._wanted: dict[str, Job] = {}
        self._spare: dict[str, None] = {}
        self._turn = threading.Lock()
        self._workload = ray.put(workload)

    @property
    def size(self) -> int:
        """Groups that can work now."""
        return self._care.size

    def start(self) -> None:
        """Start the groups and wait until one is ready for work.

        Raises:
            StudyError: No group came up.
        """
        if not self._grows:
            for _ in range(self._first):
                self._groups.add()
        self._begin()
        self._care.start()
        while not self.size:
            self.check()
            time.sleep(0.1)

    def submit(self, jobs: Sequence[Job]) -> str:
        """Queue jobs, those that others need first; the key of the last.

        Raises:
            StudyError: No group can work.
        """
        self.check()
        # The payload travels as bytes: the job queue need not import what workers train with, torch above all.
        packed = [replace(job, payload=pickle.dumps(job.payload)) for job in jobs]
        with self._turn:
            self._wanted |= {job.key: job for job in packed}
            with self._reachable():
                self.queue.submit(packed)
        return jobs[-1].key

    def drop(self, key: str) -> None:
        """Stop a job that nobody follows any more, and forget it once it has ended."""
        with self._turn:
            job = self._wanted.pop(key, None)
            idle = [] if job is None else self._idle(job.needs)
            with self._reachable():
                self.queue.stop(key, forget=(key, *idle))

    def _idle(self, needs: Sequence[str]) -> list[str]:
        """Of the jobs that dropped ones needed, those to forget: a search may have others for each of its trials.

        The latest are kept, since most searches have the same for all; whoever needs a forgotten one submits it again.
        """
        for key in needs:
            self._spare.pop(key, None)
            self._spare[key] = None
        needed = {key for job in self._wanted.values() for key in job.needs}
        idle = [key for key in list(self._spare)[: max(0, len(self._spare) - _MOST_SPARE)] if key not in needed]
        for key in idle:
            del self._spare[key]
            self._wanted.pop(key, None)
        return idle

    def check(self) -> None:
        """See that somebody can work.

        Raises:
            StudyError: No group can start, or all of them were given up, or the job queue is gone.
        """
        with self._reachable():
            problem = self.queue.problem()
        if problem:
            raise StudyError(problem)

    def run(self, jobs: Sequence[Job], heard: JobListener | None = None) -> list[Update]:
        """Submit jobs and wait for all of them to end.

        Args:
            jobs: Any jobs; those known already are not run again.
            heard: Called with each job's news as it comes.

        Returns:
            The last update of every job, in order.

        Raises:
            StudyError: No group can work any more.
        """
        self.submit(jobs)
        awaited = dict.fromkeys((job.key for job in jobs), 0)
        last: dict[str, Update] = {}
        while pending := [job for job in jobs if job.key not in last]:
            self.check()
            with self._reachable():
                updates = self.queue.follow_all([(job.key, awaited[job.key]) for job in pending], 1.0)
            for job, update in zip(pending, updates, strict=True):
                if update.reports:
                    awaited[job.key] = update.reports[-1].epoch + 1
                if heard is not None and (update.reports or update.state.ended):
                    heard(job, update)
                if update.state.ended:
                    last[job.key] = update
        if any(update.state is JobState.CANCELLED for update in last.values()):
            self.check()
        return [last[job.key] for job in jobs]

    def results(self, jobs: Sequence[Job], heard: JobListener | None = None) -> list[StageResult]:
        """Run jobs that must all succeed.

        Raises:
            JobError: One of them failed.
        """
        return results_of(self.run(jobs, heard))

    def close(self) -> None:
        """Let every worker retire and wait for the groups to end."""
        self._groups.retire()
        self._care.stop()
        try:
            self.queue.close()
        except RayActorError:
            _log.error("the job queue was gone before the pool was closed")
        self._groups.join(CLOSE_TIMEOUT)
        ray.kill(self.queue.actor)

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """A block that calls the job queue.

        Raises:
            StudyError: The job queue is gone.
        """
        try:
            yield
        except RayActorError as error:
            reason = str(error).partition("\n")[0]
            raise StudyError(
                f"the process that hands out the jobs has died ({reason}); nothing finished is lost, "
                "go on with --resume"
            ) from error

    def _begin(self) -> None:
        """Tell the job queue, in its first life or in a new one, all that is wanted of it."""
        with self._turn:
            self.queue.begin(self._groups.all, list(self._wanted.values()))
            for name, reason in self._groups.given_up.items():
                self.queue.report_broken(name, reason)


@contextmanager
def open_pool(pool: Pool) -> Iterator[Pool]:
    """Start a pool for a block of code and close it after."""
    try:
        pool.start()
        yield pool
    finally:
        pool.close()
