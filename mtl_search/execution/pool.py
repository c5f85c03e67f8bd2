"""The pool: warm worker groups, each one long-lived Ray Train run, started once per study.

The search submits jobs to the pool's mailbox and follows them there. A group that dies comes back by Ray Train's own
restarts; its job goes on from the job's last checkpoint, in whichever group is free first.
"""

import logging
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from mtl_search.config import ResourcesConfig
from mtl_search.errors import StudyError
from mtl_search.execution.jobs import Job, JobError, JobState, Update
from mtl_search.execution.mailbox import Mailbox
from mtl_search.execution.worker import work
from mtl_search.training.workspace import Workload

JOIN_TIMEOUT = 300.0
"""Seconds until a pool of which no group has started is an error."""
CLOSE_TIMEOUT = 30.0
"""Seconds the groups get to end their epoch; what still runs then ends with its next word to the dispatcher."""
_RUNS = 3
"""Runs of one group that may end on their own before the group is given up."""
_log = logging.getLogger(__name__)


class _Trainer(TorchTrainer):
    """Ray's trainer without what only serves Ray Data: a process less per group."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]  # Train V2's, chosen at import
        return [each for each in callbacks if type(each).__name__ != "DatasetsCallback"]


class Pool:
    """Worker groups and the mailbox that feeds them.

    Args:
        workload: Sent to every worker once.
        resources: What a group is made of.
        groups: How many groups to start.
        folder: Where Ray Train keeps its run files.
        name, home: The study's name, for Ray's own records; its folder in the storage, which every worker must reach.

    Attributes:
        mailbox: Handle of the dispatcher actor.
    """

    def __init__(
        self, workload: Workload, resources: ResourcesConfig, groups: int, folder: Path, name: str, home: str = ""
    ) -> None:
        self._resources, self._folder, self._name, self._home = resources, folder, name, home
        self._names = [f"group-{number}" for number in range(groups)]
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        actor: Any = ray.remote(Mailbox)
        self.mailbox: Any = actor.options(num_cpus=0, max_concurrency=1000).remote(groups)
        self._workload = ray.put(workload)

    def start(self) -> None:
        """Start every group and wait until one is ready for work.

        Raises:
            StudyError: No group came up.
        """
        for name in self._names:
            thread = threading.Thread(target=self._keep_running, args=(name,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        deadline = time.monotonic() + JOIN_TIMEOUT
        while not self._ask(self.mailbox.groups.remote()):
            self.check()
            if time.monotonic() > deadline:
                need = f"{self._resources.workers} workers with {self._scaling().resources_per_worker}"
                raise StudyError(f"no worker group started within {JOIN_TIMEOUT:.0f} s; each needs {need}")
            time.sleep(0.2)

    def submit(self, jobs: Sequence[Job]) -> str:
        """Queue jobs, those that others need first; the key of the last.

        Raises:
            StudyError: No group can work.
        """
        self.check()
        # The payload travels as bytes: the dispatcher need not import what workers train with, torch above all.
        packed = [replace(job, payload=pickle.dumps(job.payload)) for job in jobs]
        self._ask(self.mailbox.submit.remote(*packed))
        return jobs[-1].key

    def drop(self, key: str) -> None:
        """Stop a job that nobody follows any more, and forget it once it has ended."""
        self._ask([self.mailbox.stop.remote(key), self.mailbox.forget.remote(key)])

    def check(self) -> None:
        """See that somebody can work.

        Raises:
            StudyError: No group can start, or all of them were given up, or the dispatcher is gone.
        """
        problem = self._ask(self.mailbox.problem.remote())
        if problem:
            raise StudyError(problem)

    def run(self, jobs: Sequence[Job], heard: Callable[[Job, Update], None] | None = None) -> list[Update]:
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
        reports: dict[str, list[dict[str, Any]]] = {job.key: [] for job in jobs}
        last: dict[str, Update] = {}
        while pending := [job for job in jobs if job.key not in last]:
            self.check()
            looks = [self.mailbox.follow.remote(job.key, len(reports[job.key]), 1.0) for job in pending]
            for job, update in zip(pending, self._ask(looks), strict=True):
                reports[job.key] += update.reports
                if heard is not None and (update.reports or update.state.ended):
                    heard(job, update)
                if update.state.ended:
                    last[job.key] = update
        if any(update.state is JobState.CANCELLED for update in last.values()):
            self.check()
        return [last[job.key] for job in jobs]

    def results(self, jobs: Sequence[Job], heard: Callable[[Job, Update], None] | None = None) -> list[dict[str, Any]]:
        """Run jobs that must all succeed.

        Raises:
            JobError: One of them failed.
        """
        results = []
        for update in self.run(jobs, heard):
            if update.state is not JobState.DONE or update.result is None:
                raise JobError(f"{update.reason or update.state.value}")
            results.append(update.result)
        return results

    def close(self) -> None:
        """Let every worker retire and wait for the groups to end."""
        self._closing.set()
        try:
            ray.get(self.mailbox.close.remote())
        except RayActorError:
            _log.error("the dispatcher was gone before the pool was closed")
        deadline = time.monotonic() + CLOSE_TIMEOUT
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        ray.kill(self.mailbox)

    def _ask(self, words: Any) -> Any:
        """The mailbox's answer to one call or to several.

        Raises:
            StudyError: The dispatcher is gone.
        """
        try:
            return ray.get(words)
        except RayActorError as error:
            reason = str(error).partition("\n")[0]
            raise StudyError(
                f"the process that hands out the jobs has died ({reason}); nothing finished is lost, "
                "go on with --resume"
            ) from error

    def _keep_running(self, name: str) -> None:
        """Thread of one group: run it, and again where it ends though the study goes on."""
        reason = ""
        try:
            for _ in range(_RUNS):
                reason = self._run_group(name)
                if self._closing.is_set():
                    return
                _log.error("worker group %s ended: %s", name, reason)
                ray.get(self.mailbox.leave.remote(name))
            ray.get(self.mailbox.broken.remote(name, f"worker group {name} ended {_RUNS} times: {reason}"))
        except RayActorError:
            _log.error("worker group %s ended with the dispatcher: %s", name, reason)

    def _run_group(self, name: str) -> str:
        """Keep one Ray Train run going until it ends; why it did."""
        try:
            self._trainer(name).fit()
        except Exception as error:  # noqa: BLE001  whatever ends a group's run, the others go on; the caller says it
            return f"{type(error).__name__}: {error}"
        return "its workers returned"

    def _trainer(self, name: str) -> TorchTrainer:
        gpu = self._resources.gpus_per_worker > 0
        return _Trainer(
            work,
            train_loop_config={
                "group": name,
                "mailbox": self.mailbox,
                "workload": [self._workload],
                "precision": self._resources.precision,
                "activations": self._resources.activations,
                "threads": self._resources.cpus_per_worker,
                "home": self._home,
                "path": list(sys.path),
                "folder": str(Path.cwd()),
            },
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
            scaling_config=self._scaling(),
            run_config=RunConfig(
                name=f"{self._name}-{name}-{os.getpid()}-{time.time_ns()}",
                storage_path=str(self._folder),
                failure_config=FailureConfig(max_failures=-1),
            ),
        )

    def _scaling(self) -> ScalingConfig:
        need: dict[str, float] = {"CPU": self._resources.cpus_per_worker}
        if self._resources.gpus_per_worker:
            need["GPU"] = self._resources.gpus_per_worker
        return ScalingConfig(
            num_workers=self._resources.workers,
            use_gpu=self._resources.gpus_per_worker > 0,
            resources_per_worker=need,
        )


@contextmanager
def running(pool: Pool) -> Iterator[Pool]:
    """Start a pool for a block of code and close it after."""
    try:
        pool.start()
        yield pool
    finally:
        pool.close()
