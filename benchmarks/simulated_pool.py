"""The pool of worker groups that sleep; apart from them, since their process needs nothing of it."""

import time
from typing import Any

import ray
from simulated_groups import SimulatedGroups, Span

from mtl_search.pool.pool import Pool


class SimulatedPool(Pool):
    """The pool with simulated groups; job queue, jobs and everything the driver does are the real ones."""

    epoch_seconds = 0.0
    busy: list[list[Span]]
    """When each group was in epochs of joint training; of a closed pool."""

    def start(self) -> None:
        """Start the actor and its groups; it takes the CPUs that real groups would take."""
        actor: Any = ray.remote(SimulatedGroups)
        self._actor = actor.options(num_cpus=self._first, max_concurrency=1000).remote(type(self).epoch_seconds)
        self.queue.begin(self._first, [])
        self._serving = [self._actor.serve.remote(f"group-{n}", self.queue.actor) for n in range(self._first)]
        while len(self.queue.groups() or ()) < self._first:
            time.sleep(0.1)
        self._care.size = self._first

    def close(self) -> None:
        """Let the groups retire."""
        self.queue.close()
        type(self).busy = ray.get(self._serving)
        ray.kill(self._actor)
        ray.kill(self.queue.actor)
