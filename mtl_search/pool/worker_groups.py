"""The groups of a pool: each a Ray Train run in a thread of the driver, started again where it ends too early."""

import logging
import threading
import time
from collections.abc import Callable
from typing import final

from ray.exceptions import RayActorError
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util import remove_placement_group

from mtl_search.pool.queue_client import JobQueueClient

_RUNS = 3
"""Runs of one group that may end in a row without having taken a job before the group is given up."""
_log = logging.getLogger(__name__)


@final
class WorkerGroups:
    """Starts groups and keeps them running.

    Args:
        queue: The job queue.
        trainer: Makes the run of a group, given its name.

    Attributes:
        given_up: Why a group is not started again, by name.
    """

    def __init__(self, queue: JobQueueClient, trainer: Callable[[str], DataParallelTrainer]) -> None:
        self._queue, self._trainer = queue, trainer
        self.given_up: dict[str, str] = {}
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()

    @property
    def started(self) -> int:
        """Groups that work, start, or wait for room."""
        return sum(thread.is_alive() for thread in self._threads)

    @property
    def all(self) -> int:
        """Groups that were ever started."""
        return len(self._threads)

    def add(self) -> None:
        """Start another one."""
        name = f"group-{len(self._threads)}"
        thread = threading.Thread(target=self._keep_running, args=(name,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def retire(self) -> None:
        """From now on a run that ends is not started again."""
        self._closing.set()

    def join(self, seconds: float) -> None:
        """Wait for the runs to end."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def _keep_running(self, name: str) -> None:
        """Thread of one group: run it, and again where it ends though the study goes on."""
        reason, left = "", _RUNS
        try:
            while left:
                reason = self._run(name)
                if self._closing.is_set():
                    return
                _log.error("worker group %s ended: %s", name, reason)
                worked, room = self._queue.leave(name)
                if room is not None:
                    remove_placement_group(room)  # a controller that was killed leaves it behind
                left = _RUNS if worked else left - 1
            self.given_up[name] = f"worker group {name} ended {_RUNS} times: {reason}"
            self._queue.report_broken(name, self.given_up[name])
        except RayActorError:
            _log.error("worker group %s ended with the job queue: %s", name, reason)

    def _run(self, name: str) -> str:
        """Keep one Ray Train run going until it ends; why it did."""
        try:
            self._trainer(name).fit()
        except Exception as error:  # noqa: BLE001  whatever ends a group's run, the others go on; the caller says it
            return f"{type(error).__name__}: {error}"
        return "its workers returned"
