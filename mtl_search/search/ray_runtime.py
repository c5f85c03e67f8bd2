"""A study on Ray: worker groups carry out its jobs, and Ray Tune drives its trials."""

from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.tune.error import TuneError

from mtl_search.execution.cluster import start_ray
from mtl_search.execution.own_ray import stop_ray
from mtl_search.execution.pool import Pool, running
from mtl_search.execution.reach import check_nodes
from mtl_search.search.runtime import Session, Work
from mtl_search.search.searcher import OptunaSearcher
from mtl_search.search.stoppers import Stopping
from mtl_search.search.tuning import tuner_of


@contextmanager
def ray_runtime(work: Work) -> Iterator[Session]:
    """Ray and a pool on it for a block of code; Ray ends with the block if it was started for it.

    Raises:
        ConfigError: Not even one worker group fits, or could.
        StudyError: No worker group can work.
    """
    was_connected = ray.is_initialized()
    config, folder = work.config, work.folder
    try:
        capacity = start_ray(config.resources, work.useful)
        home = check_nodes(folder.home, shared=bool(work.driver))
        pool = Pool(
            work.workload,
            config.resources,
            capacity.groups,
            folder.ray,
            config.name,
            home,
            capacity.most,
            capacity.patience,
        )

        def search(searcher: OptunaSearcher, stopping: Stopping) -> None:
            try:
                tuner_of(searcher, stopping, capacity.trial, pool.queue, folder.ray / f"tune{work.driver}").fit()
            except TuneError:
                pool.check()  # where the pool is the reason, say so
                raise

        with running(pool):
            yield Session(pool, capacity.groups, search)
    finally:
        if not was_connected:
            stop_ray()
