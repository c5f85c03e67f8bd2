"""The pool monitor on a real Ray whose records do not answer for a moment."""

import time
from typing import Any

import pytest
import ray
from live_processes import wait_for
from ray.exceptions import RpcError

from mtl_search.config.study_config import ResourcesConfig
from mtl_search.pool import autoscaler
from mtl_search.pool.job_queue import JobQueue
from mtl_search.pool.pool_monitor import PoolMonitor
from mtl_search.pool.queue_client import JobQueueClient
from mtl_search.pool.worker_groups import WorkerGroups

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.mark.parametrize("trouble", [RpcError("the records are away"), KeyError("bundles")])
def test_a_pool_is_looked_after_again_when_ray_s_records_are_back(
    trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, added = list[float](), list[float]()
    answer = autoscaler.placement_group_table

    def away_at_first(group: Any) -> Any:
        asked.append(time.monotonic())
        if len(asked) < 3:
            raise trouble
        return answer(group)

    monkeypatch.setattr(autoscaler, "placement_group_table", away_at_first)
    queue = JobQueueClient(ray.remote(JobQueue).options(num_cpus=0).remote(1))
    grows = autoscaler.Autoscaler(1, {"CPU": 1}, 1, 1, lambda: added.append(time.monotonic()))
    pool_monitor = PoolMonitor(queue, WorkerGroups(queue, pytest.fail), grows, pytest.fail, ResourcesConfig(), 60.0)
    pool_monitor.start()
    try:
        wait_for(lambda: added, 30)
    finally:
        pool_monitor.stop()
        ray.kill(queue.actor)
    assert len(asked) >= 3
