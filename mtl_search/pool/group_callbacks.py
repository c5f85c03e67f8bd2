"""What Ray Train's controller of a worker group tells the job queue: it is down, or is about to be resized.

Without it a job would be given back only when its group comes back, which may need a node that never does.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar, final

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback

from mtl_search.pool.jobs import DIED, fault_of
from mtl_search.pool.queue_client import JobQueueClient

Answer = TypeVar("Answer")
_LOOK = 2.0
"""Seconds between two looks at the workers of a group that is to rest."""
_log = logging.getLogger(__name__)


@final
class GroupCallback(ControllerCallback, WorkerGroupCallback):
    """Runs in the controller of one group.

    Args:
        queue: The job queue.
        group: The group's name.
        patience: Seconds that an epoch may take to end before its group is resized all the same.
    """

    def __init__(self, queue: JobQueueClient, group: str, patience: float) -> None:
        self._queue, self._group, self._patience = queue, group, patience
        self._fault = DIED
        self._workers: list[Any] = []

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Tell where the workers are placed."""
        self._workers = [worker.actor for worker in worker_group.get_workers()]
        room = worker_group.get_worker_group_state().placement_group_handle.placement_group
        self._call(lambda: self._queue.settle(self._group, room))

    def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
        """Note what a worker died of."""
        if worker_group_status.errors:
            self._fault = fault_of(" ".join(map(str, worker_group_status.errors.values())))

    def before_controller_execute_failure_decision(self, failure_decision: Any) -> None:
        """The group is down: another may take its job at once."""
        self._report_down(self._fault)

    def before_controller_execute_resize_decision(self, resize_decision: Any) -> None:
        """The group gives its job back at the end of the epoch, so that nothing is lost by the new size.

        While this waits Ray Train looks after nobody: a worker that dies meanwhile ends the wait.
        """
        deadline = time.monotonic() + self._patience
        while self._call(lambda: self._queue.rest(self._group, _LOOK)) is False and time.monotonic() < deadline:
            try:
                ray.get([worker.__ray_ready__.remote() for worker in self._workers], timeout=_LOOK)
            except GetTimeoutError:
                continue
            except RayError as error:
                _log.error("worker group %s is resized though its job still ran: %s", self._group, error)
                return

    def before_worker_group_shutdown(self, worker_group: Any) -> None:
        """Whatever the workers still say is not heard."""
        self._report_down()

    def before_worker_group_abort(self, worker_group_context: Any) -> None:
        """As for ``before_worker_group_shutdown``."""
        self._report_down()

    def _report_down(self, fault: str = "") -> None:
        self._call(lambda: self._queue.report_down(self._group, fault))

    def _call(self, call: Callable[[], Answer]) -> Answer | None:
        """Call the job queue; None where it cannot be reached. The pool sees to one that is gone for good."""
        try:
            return call()
        except RayError as error:
            _log.error("worker group %s cannot reach the job queue: %s", self._group, error)
        return None
