"""The local pool: a study's jobs carried out in this very process, one after the other, without Ray.

It serves small studies, notebooks, debuggers and tests. A job gives the same result as in a worker group of one worker.
"""

import logging
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import final

import torch

from mtl_search.config.study_config import ResourcesConfig
from mtl_search.errors import ConfigError, DamagedError, MtlSearchError, Problem, StorageError
from mtl_search.models.distributed import DistributedContext, use_threads
from mtl_search.pool.job_pool import JobListener, results_of
from mtl_search.pool.jobs import Job, JobState, Update
from mtl_search.pool.stage_job import carry_out, failure_reason
from mtl_search.storage.reports import EpochReport, StageResult
from mtl_search.training.stages import Stage
from mtl_search.training.workspace import Workload, Workspace

GROUP = "this process"
"""Name of the only worker group."""
EpochListener = Callable[[EpochReport], bool]
"""Called with each epoch of a job; whether the job goes on."""
_log = logging.getLogger(__name__)


def check_local(resources: ResourcesConfig) -> None:
    """See that this process can be the only worker of a study.

    Raises:
        ConfigError: The study wants several workers a trial, or more GPUs than there are.
    """
    problems = []
    if resources.fewest_workers > 1:
        rule = "must be 1 with --local (local=True), where one process trains"
        problems.append(Problem("resources.workers", rule, resources.workers))
    if resources.gpus_per_worker and not torch.cuda.is_available():
        rule = "must fit what this machine has (0 GPUs)"
        problems.append(Problem("resources.gpus_per_worker", rule, resources.gpus_per_worker))
    if problems:
        raise ConfigError(problems)


class _Control:
    """Passes each epoch on, and asks whether to go on (a ``training.control.Control``)."""

    def __init__(self, heard: EpochListener) -> None:
        self._heard, self._go_on = heard, True

    def report(self, epoch: EpochReport) -> None:
        self._go_on = self._heard(replace(epoch, group=GROUP)) and self._go_on

    def proceed(self, epoch: int) -> bool:
        return self._go_on


@final
class LocalPool:
    """Carries out jobs in this process (an ``pool.job_pool.JobPool``).

    Args:
        workload: What the jobs have in common.
        resources: Precision, threads and memory of a worker.
        tell: Told the traceback of an error that is no rule of this package, such as one in a user's own backbone.
    """

    def __init__(
        self, workload: Workload, resources: ResourcesConfig, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        device = torch.device("cuda" if resources.gpus_per_worker else "cpu")
        world = replace(DistributedContext.current(device, resources.precision), rank=0, size=1)
        self._workspace = Workspace(workload, world, resources.activations)
        self._tell = tell
        self._jobs: dict[str, Job] = {}
        self._ended: dict[str, Update] = {}

    @property
    def size(self) -> int:
        """This process alone."""
        return 1

    def submit(self, jobs: Sequence[Job]) -> str:
        """Note jobs; they are carried out when somebody waits for them."""
        self._jobs |= {job.key: job for job in jobs}
        return jobs[-1].key

    def drop(self, key: str) -> None:
        """Forget a job."""
        self._jobs.pop(key, None)
        self._ended.pop(key, None)

    def check(self) -> None:
        """This process can always work."""

    def run(self, jobs: Sequence[Job], heard: JobListener | None = None) -> list[Update]:
        """Carry out jobs, one after the other; see ``JobPool.run``.

        Raises:
            StorageError: The storage cannot be read or written.
        """
        self.submit(jobs)
        updates = []
        for job in jobs:
            update = self.follow(job.key, _passing_on(job, heard))
            if heard is not None:
                heard(job, update)
            updates.append(update)
        return updates

    def results(self, jobs: Sequence[Job], heard: JobListener | None = None) -> list[StageResult]:
        """Carry out jobs that must all succeed; see ``JobPool.results``."""
        return results_of(self.run(jobs, heard))

    def follow(self, key: str, heard: EpochListener = lambda _: True) -> Update:
        """Carry out one job, and those that it needs before it.

        Args:
            key: A submitted job. One that has ended is not carried out again.
            heard: Called with each epoch that is trained now; whether the job goes on.

        Returns:
            How the job ended: CANCELLED where ``heard`` stopped it.

        Raises:
            StorageError: The storage cannot be read or written.
        """
        if key not in self._ended:
            update = self._lacking(self._jobs[key]) or self._carry_out(self._jobs[key].payload, heard)
            if update.state is JobState.CANCELLED:
                return update
            self._ended[key] = update
        return self._ended[key]

    def _lacking(self, job: Job) -> Update | None:
        """Why a job cannot start; None if it can."""
        for need in job.needs:
            update = self.follow(need)
            if update.state is not JobState.DONE:
                return Update(state=JobState.FAILED, reason=update.reason)
        return None

    def _carry_out(self, stage: Stage, heard: EpochListener) -> Update:
        try:
            result = carry_out(stage, self._workspace, _Control(heard))
        except Exception as error:
            if isinstance(error, StorageError) and not isinstance(error, DamagedError):
                raise  # no recipe is to blame, and the next job would meet the same
            _log.exception("job %s failed", stage.key)
            if not isinstance(error, MtlSearchError):
                self._tell("".join(traceback.format_exception(error)).rstrip())
            return Update(state=JobState.FAILED, reason=failure_reason(error), attempts=1)
        state = JobState.CANCELLED if result.stopped else JobState.DONE
        return Update(state=state, result=result, attempts=1)


def _passing_on(job: Job, heard: JobListener | None) -> EpochListener:
    def pass_on(report: EpochReport) -> bool:
        if heard is not None:
            heard(job, Update([report], JobState.RUNNING, attempts=1))
        return True

    return pass_on


@contextmanager
def local_pool(
    workload: Workload, resources: ResourcesConfig, tell: Callable[[str], None] = lambda _: None
) -> Iterator[LocalPool]:
    """A local pool for a block of code, with a worker's number of threads; afterwards torch is as it was."""
    threads, random, wanted = torch.get_num_threads(), torch.get_rng_state(), os.environ.get("OMP_NUM_THREADS")
    use_threads(resources.cpus_per_worker)
    try:
        yield LocalPool(workload, resources, tell)
    finally:
        torch.set_num_threads(threads)
        os.environ.pop("OMP_NUM_THREADS")
        os.environ |= {} if wanted is None else {"OMP_NUM_THREADS": wanted}
        torch.set_rng_state(random)
