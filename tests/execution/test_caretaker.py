"""The caretaker on a real Ray whose records do not answer for a moment."""

import time
from typing import Any

import pytest
import ray
from live_processes import wait_for
from ray.exceptions import RpcError

from mtl_search.config import ResourcesConfig
from mtl_search.execution import growth
from mtl_search.execution.caretaker import Caretaker
from mtl_search.execution.groups import Groups
from mtl_search.execution.mailbox import Mailbox
from mtl_search.execution.queue_client import JobQueueClient

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.mark.parametrize("trouble", [RpcError("the records are away"), KeyError("bundles")])
def test_a_pool_is_looked_after_again_when_ray_s_records_are_back(
    trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, added = list[float](), list[float]()
    answer = growth.placement_group_table

    def away_at_first(group: Any) -> Any:
        asked.append(time.monotonic())
        if len(asked) < 3:
            raise trouble
        return answer(group)

    monkeypatch.setattr(growth, "placement_group_table", away_at_first)
    queue = JobQueueClient(ray.remote(Mailbox).options(num_cpus=0).remote(1))
    grows = growth.Growth(1, {"CPU": 1}, 1, 1, lambda: added.append(time.monotonic()))
    caretaker = Caretaker(queue, Groups(queue, pytest.fail), grows, pytest.fail, ResourcesConfig(), 60.0)
    caretaker.start()
    try:
        wait_for(lambda: added, 30)
    finally:
        caretaker.stop()
        ray.kill(queue.actor)
    assert len(asked) >= 3
