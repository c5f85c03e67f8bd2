"""A study on Ray: worker groups carry out its jobs, and Ray Tune drives its trials."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.tune.error import TuneError

from mtl_search.pool.local_ray import stop_ray
from mtl_search.pool.pool import Pool, open_pool
from mtl_search.pool.ray_cluster import start_ray
from mtl_search.pool.storage_check import check_storage_on_nodes
from mtl_search.search.runtime import Work
from mtl_search.search.searcher import OptunaSearcher
from mtl_search.search.stoppers import Stopping
from mtl_search.search.tuning import tuner_of


@dataclass(frozen=True)
class RaySession:
    """A pool of worker groups, and Ray Tune over it (a ``search.runtime.Session``).

    Attributes:
        pool: Its worker groups carry out jobs.
        groups: Worker groups at first.
        trial: What one light trial asks of Ray.
        folder: Where Ray Tune keeps its run files.
    """

    pool: Pool
    groups: int
    trial: Mapping[str, float]
    folder: Path

    def run_trials(self, searcher: OptunaSearcher, stopping: Stopping) -> None:
        """Have Ray Tune carry out trials until the searcher has no more.

        Args:
            searcher: Says what is tried.
            stopping: Ends trials early.

        Raises:
            StudyError: Nobody can work any more, or what became of a trial cannot be written.
        """
        try:
            tuner_of(searcher, stopping, self.trial, self.pool.queue, self.folder).fit()
        except TuneError:
            self.pool.check()  # where the pool is the reason, say so
            raise


@contextmanager
def ray_runtime(work: Work) -> Iterator[RaySession]:
    """Ray and a pool on it for a block of code; Ray ends with the block if it was started for it.

    Raises:
        ConfigError: Not even one worker group fits, or could.
        StudyError: No worker group can work.
    """
    was_connected = ray.is_initialized()
    config, folder = work.config, work.folder
    try:
        capacity = start_ray(config.resources, work.useful)
        location = check_storage_on_nodes(folder.location, shared=bool(work.driver))
        pool = Pool(
            work.workload,
            config.resources,
            capacity.groups,
            folder.ray,
            config.name,
            location,
            capacity.most,
            capacity.patience,
        )

        with open_pool(pool):
            yield RaySession(pool, capacity.groups, capacity.trial, folder.ray / f"tune{work.driver}")
    finally:
        if not was_connected:
            stop_ray()
