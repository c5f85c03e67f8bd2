"""The pool monitor: a thread of the pool that looks after its groups, and tells a new job queue what its work is."""

import logging
import threading
import time
from collections.abc import Callable
from typing import final

from ray.exceptions import ActorDiedError, RayError

from mtl_search.config.study_config import ResourcesConfig
from mtl_search.pool.autoscaler import Autoscaler
from mtl_search.pool.queue_client import JobQueueClient
from mtl_search.pool.ray_cluster import no_room_error
from mtl_search.pool.worker_groups import WorkerGroups

_RHYTHM = 1.0
"""Seconds between two looks at the groups."""
_REST, _MOST_DOUBLINGS = 15.0, 6
"""Seconds without growth after a group was given up; twice as long after each further one, so many times."""
_log = logging.getLogger(__name__)


@final
class PoolMonitor:
    """Looks after a pool's groups: how many there are, whether more would fit, whether any is left.

    Args:
        queue: The job queue.
        groups: Those that were started.
        growth: Adds more; None for a pool that does not grow.
        begin: Tells the job queue all that is wanted of it.
        resources: What a group is made of.
        patience: Seconds without a single group until that is an error.

    Attributes:
        size: Groups that can work now.
    """

    def __init__(
        self,
        queue: JobQueueClient,
        groups: WorkerGroups,
        growth: Autoscaler | None,
        begin: Callable[[], None],
        resources: ResourcesConfig,
        patience: float,
    ) -> None:
        self._queue, self._groups, self._growth, self._begin = queue, groups, growth, begin
        self._resources, self._patience = resources, patience
        self.size = 0
        self._known = self._given_up = 0
        self._empty_since = self._rest_until = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._tend, name="pool", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more, and ask for no more room."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._growth is not None:
            self._growth.stop()

    def _tend(self) -> None:
        self._empty_since = time.monotonic()
        while not self._closing.wait(_RHYTHM if self.size else _RHYTHM / 5):
            try:
                self._look()
            except ActorDiedError as error:
                _log.error("the job queue is gone: %s", error)
                return
            except (RayError, KeyError) as error:  # Ray's records are away, or do not know yet what was asked for
                _log.error("cannot look after the pool, and try again: %s", error)

    def _look(self) -> None:
        groups = self._queue.groups()
        if groups is None:
            _log.error("the job queue was started anew: every job that is not done goes on")
            self._begin()
            return
        if self._known != self._groups.all:
            self._known = self._groups.all
            self._queue.begin(self._known, [])
        self.size, now = len(groups), time.monotonic()
        if self.size:
            self._empty_since = now
        elif now - self._empty_since > self._patience:
            self._queue.give_up(no_room_error(self._resources, self._patience))
        if self._growth is not None and not self._rests(now):
            self._growth.look(self.size, self._groups.started)

    def _rests(self, now: float) -> bool:
        """Whether growing waits: where groups cannot start on a node, its room would be tried again and again."""
        given_up = len(self._groups.given_up)
        if given_up > self._given_up:
            self._given_up, self._rest_until = given_up, now + _REST * 2 ** min(given_up, _MOST_DOUBLINGS)
        return now < self._rest_until
