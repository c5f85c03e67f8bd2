"""One worker group as Ray Train runs it: what it is made of, what its workers get, what is heard of its end."""

import os
import sys
import time
from pathlib import Path
from typing import Any, final

from ray.train import FailureConfig, RunConfig
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2.api.config import ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from mtl_search.config.study_config import ResourcesConfig
from mtl_search.pool.group_callbacks import GroupCallback
from mtl_search.pool.local_ray import is_local_ray
from mtl_search.pool.process_group import ProcessGroupConfig
from mtl_search.pool.queue_client import JobQueueClient
from mtl_search.pool.ray_cluster import worker_needs
from mtl_search.pool.settled_policy import SettledPolicy
from mtl_search.pool.storage_check import StudyLocation
from mtl_search.pool.worker import work

_LEFT_OUT = {"DatasetsCallback", "PlacementGroupCleanerCallback"}
"""A process less per group each: one serves Ray Data only; the other needs a dashboard, and the pool does its work."""
RESIZE_SECONDS = 60.0
"""How often a group of elastic size looks whether there is room for another one."""


@final
class GroupTrainer(DataParallelTrainer):
    """Ray's trainer of one group; its controller speaks to the job queue too.

    Args:
        group: The group's name.
        queue: The job queue.
        workload: Object reference, fetched once per node.
        resources: What the group is made of.
        folder: Where Ray Train keeps its run files.
        name: The study's name, for Ray's own records.
        location: Its folder in the storage, which every worker must reach; None for none.
    """

    def __init__(
        self,
        group: str,
        queue: JobQueueClient,
        workload: Any,
        resources: ResourcesConfig,
        folder: Path,
        name: str,
        location: StudyLocation | None,
    ) -> None:
        self._news = GroupCallback(queue, group, resources.report_seconds)
        super().__init__(
            work,
            train_loop_config={
                "group": group,
                "queue": queue,
                "workload": [workload],
                "precision": resources.precision,
                "activations": resources.activations,
                "threads": resources.cpus_per_worker,
                "home": location,
                "path": list(sys.path),
                "folder": str(Path.cwd()),
            },
            backend_config=ProcessGroupConfig("nccl" if resources.gpus_per_worker else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=resources.workers,
                use_gpu=resources.gpus_per_worker > 0,
                resources_per_worker=worker_needs(resources),
                elastic_resize_monitor_interval_s=RESIZE_SECONDS,
            ),
            run_config=RunConfig(
                name=f"{name}-{group}-{os.getpid()}-{time.time_ns()}",
                storage_path=str(folder),
                failure_config=FailureConfig(max_failures=-1),
            ),
        )

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [*(each for each in callbacks if type(each).__name__ not in _LEFT_OUT), self._news]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        policy = parts["scaling_policy"]
        if is_local_ray() and isinstance(policy, FixedScalingPolicy):
            parts["scaling_policy"] = SettledPolicy(policy.scaling_config)
        return super()._initialize_and_run_controller(**parts)
