"""Stories of a pool on a cluster of several Ray nodes on this machine: ``python cluster_scenarios.py STORY FOLDER``.

Each runs in a process of its own, since Ray is one per process, and prints what came of it as JSON.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray
from live_processes import RAY, descendants, wait_for
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE
from ray.cluster_utils import Cluster
from ray.experimental import get_object_locations
from small_studies import Story, run_here, study_of
from tiny_studies import TASKS, jobs, recipe, told, workload
from trapped_backbone import SLOW

from mtl_search.config.study_config import ResourcesConfig
from mtl_search.errors import StudyError
from mtl_search.models.distributed import DistributedContext, use_threads
from mtl_search.pool import group_trainer
from mtl_search.pool.jobs import Job, Update
from mtl_search.pool.local_ray import stop_ray
from mtl_search.pool.pool import Pool, open_pool
from mtl_search.pool.ray_cluster import max_resources, set_environment, start_ray
from mtl_search.training.stages import is_finished, run_stage
from mtl_search.training.workspace import Workspace

STORE = 80 * 1024 * 1024
PATIENCE = 240.0
"""Seconds for a cluster to grow or shrink."""


FAKE_NODES: dict[str, Any] = {
    "cluster_name": "fake",
    "provider": {"type": "fake_multinode", "use_node_id_as_ip": True, "disable_node_updaters": True},
    "max_workers": 2,
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 5,
    "head_node_type": FAKE_HEAD_NODE_TYPE,
    "available_node_types": {
        FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "small": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
    },
    **{key: {} for key in ("auth", "docker", "file_mounts")},
    **{
        key: [] for key in ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
    },
    **{key: [] for key in ("head_start_ray_commands", "worker_start_ray_commands", "rsync_exclude", "rsync_filter")},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
}


FAKE_HEAD = {
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_FAKE_CLUSTER": "1",
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
}


def short_folder() -> tempfile.TemporaryDirectory[str]:
    """For Ray's files: the path of a socket has room for 100 letters."""
    return tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True)


@contextmanager
def head_without_work() -> Iterator[Cluster]:
    """A cluster whose head offers no CPU, as clusters in the cloud have it."""
    set_environment()
    os.environ["RAY_health_check_period_ms"] = "500"  # noqa: SIM112  Ray's spelling
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
    with short_folder() as place:
        os.environ["RAY_TMPDIR"] = place  # or any other Ray on this machine would join
        cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)  # nodes join from threads
        try:
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
            yield cluster
        finally:
            stop_ray()
            cluster.shutdown()


def workers(node: Any = None) -> list[psutil.Process]:
    """Processes that train, of one node or of all."""
    root = psutil.Process() if node is None else psutil.Process(node.all_processes["raylet"][0].process.pid)
    return descendants("RayTrainWorker", root)


def pool_of(
    folder: Path,
    most: int,
    resources: ResourcesConfig | None = None,
    patience: float = 240,
    function: str = "blocks",
) -> Pool:
    resources = resources or ResourcesConfig()
    capacity = start_ray(resources, most)
    study = workload(folder, function)
    return Pool(study, resources, capacity.groups, folder / "ray", "story", most=capacity.most, patience=patience)


@contextmanager
def autoscaling(folder: Path) -> Iterator[None]:
    """A cluster of a head without work, to which Ray's own autoscaler adds up to two nodes of one CPU, each a raylet.

    As Ray's ``AutoscalingCluster``, which stops every Ray of the machine first and lacks a file in the wheel.
    """
    set_environment()
    port, file = free_port(), folder / "cluster.json"
    provider = FAKE_NODES["provider"] | {"gcs_address": f"{ray.util.get_node_ip_address()}:{port}"}
    file.write_text(json.dumps(FAKE_NODES | {"provider": provider}))
    words = f"start --head --block --num-cpus=0 --include-dashboard=false --port={port}"
    words += f" --ray-client-server-port={free_port()} --object-store-memory={STORE}"
    with short_folder() as place:
        head = subprocess.Popen(
            [RAY, *words.split(), f"--temp-dir={place}", f"--autoscaling-config={file}"],
            env=os.environ | FAKE_HEAD,
            stdout=(folder / "head.log").open("w"),
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(lambda: "--block" in (folder / "head.log").read_text(), 180)
            ray.init(f"127.0.0.1:{port}", log_to_driver=False, logging_level="ERROR", configure_logging=False)
            yield
        finally:
            stop_ray()
            family = [head, *psutil.Process(head.pid).children(recursive=True)]
            for process in family:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(family, timeout=10)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def autoscaled(folder: Path) -> dict[str, Any]:
    """No node at first; what the pool asks for brings two."""
    with autoscaling(folder):
        most = max_resources()
        with open_pool(pool_of(folder, most=5)) as pool:
            wait_for(lambda: pool.size == 2, 150)
            states = [update.state for update in pool.run(jobs(workload(folder), recipe(), folder))]
            time.sleep(5)
            return {"most": most, "states": states, "size": pool.size, "nodes": len(ray.nodes()) - 1}


def growth(folder: Path) -> dict[str, Any]:
    """No node at first, then one, then two; the one with a job goes, and takes its room with it."""
    with head_without_work() as cluster:
        pool = pool_of(folder, most=2)
        pool.queue.begin(0, [])
        adding = threading.Timer(3, cluster.add_node, kwargs={"num_cpus": 1, "object_store_memory": STORE})
        adding.start()
        with open_pool(pool):
            adding.join()
            sizes = [pool.size]
            second = cluster.add_node(num_cpus=1, object_store_memory=STORE)
            wait_for(lambda: pool.size == 2, PATIENCE)
            sizes.append(pool.size)
            todo = [
                job
                for number in range(2)
                for job in jobs(workload(folder), recipe(batch_size=SLOW, epochs=40, lr=0.01 + number / 100), folder)
            ]
            heard: dict[str, list[int]] = {}
            lost: list[float] = []

            def lose_a_node(job: Job, update: Update) -> None:
                heard.setdefault(job.key, []).extend(report.epoch for report in update.reports)
                if not lost and job.payload.kind == "joint" and len(heard[job.key]) > 3:
                    working = {key for key in (pool.queue.groups() or {}).values() if key}
                    if len(working) == 2:
                        lost.append(time.monotonic())
                        cluster.remove_node(second, allow_graceful=False)

            updates = pool.run(todo, lose_a_node)
            wait_for(lambda: pool.size == 1, PATIENCE)
            sizes.append(pool.size)
        return {
            "sizes": sizes,
            "states": [update.state for update in updates],
            "attempts": [update.attempts for update in updates],
            "epochs": [heard[job.key] for job in todo if job.payload.kind == "joint"],
            "lost": bool(lost),
        }


def nobody(folder: Path) -> dict[str, Any]:
    """The only node goes and no other comes."""
    with head_without_work() as cluster:
        node = cluster.add_node(num_cpus=1, object_store_memory=STORE)
        started = 0.0
        try:
            with open_pool(pool_of(folder, most=2, patience=45)) as pool:

                def lose_the_node(job: Job, update: Update) -> None:
                    nonlocal started
                    if job.payload.kind == "joint" and update.reports and not started:
                        started = time.monotonic()
                        cluster.remove_node(node, allow_graceful=False)

                pool.run(jobs(workload(folder), recipe(batch_size=SLOW, epochs=400), folder), lose_the_node)
        except StudyError as error:
            return {"said": str(error), "after": time.monotonic() - started}
        return {"said": ""}


def job_queue(folder: Path) -> dict[str, Any]:
    """The job queue's process is killed while a job runs and another waits."""
    with head_without_work() as cluster:
        cluster.add_node(num_cpus=2, object_store_memory=STORE)
        with open_pool(
            pool_of(folder, most=1, resources=ResourcesConfig(workers=int(os.environ.get("WORKERS", "1"))))
        ) as pool:
            todo = [
                job
                for number in range(2)
                for job in jobs(workload(folder), recipe(batch_size=SLOW, epochs=30, lr=0.01 + number / 100), folder)
            ]
            heard: dict[str, list[int]] = {}
            killed: list[int] = []

            def kill(job: Job, update: Update) -> None:
                epochs = heard.setdefault(job.key, [])
                epochs += [report.epoch for report in update.reports]
                if update.result:  # what a dead job queue was told last stands there alone
                    epochs += [report.epoch for report in update.result.history[len(epochs) :]]
                if not killed and job.payload.kind == "joint" and len(heard[job.key]) > 5:
                    (process,) = descendants("Mailbox")
                    killed.append(process.pid)
                    os.kill(process.pid, signal.SIGKILL)

            updates = pool.run(todo, kill)
        return {
            "killed": len(killed),
            "states": [update.state for update in updates],
            "epochs": [heard[job.key] for job in todo if job.payload.kind == "joint"],
        }


def elastic(folder: Path) -> dict[str, Any]:
    """A group of two loses a node and goes on alone; with another node it is two again."""
    group_trainer.RESIZE_SECONDS = 2.0
    study = workload(folder, "still_blocks")
    with head_without_work() as cluster:
        cluster.add_node(num_cpus=1, object_store_memory=STORE)
        second = cluster.add_node(num_cpus=1, object_store_memory=STORE)
        with open_pool(pool_of(folder, 1, ResourcesConfig(workers=(1, 2)), function="still_blocks")) as pool:
            sizes, heard = [len(workers())], list[int]()

            def lose_a_node(job: Job, update: Update) -> None:
                if job.payload.kind == "joint":
                    heard.extend(report.epoch for report in update.reports)
                    if len(heard) > 5 and len(sizes) == 1:
                        sizes.append(0)
                        cluster.remove_node(second, allow_graceful=False)

            shrunk = jobs(study, recipe(batch_size=2 * SLOW, epochs=40), folder / "elastic")
            updates = pool.run(shrunk, lose_a_node)
            sizes[1] = len(workers())

            def add_a_node(job: Job, update: Update) -> None:
                if job.payload.kind == "joint" and update.reports and len(sizes) == 2:
                    sizes.append(0)
                    cluster.add_node(num_cpus=1, object_store_memory=STORE)

            grown = jobs(study, recipe(batch_size=SLOW, epochs=150), folder / "elastic")
            updates += pool.run(grown, add_a_node)
            sizes[2] = len(workers())
        plain = [jobs(study, recipe(batch_size=2 * SLOW, epochs=40), folder / "plain")]
        plain.append(jobs(study, recipe(batch_size=SLOW, epochs=150), folder / "plain"))
        carry_out(study, [job.payload for todo in plain for job in todo])
        return {
            "sizes": sizes,
            "states": [update.state for update in updates],
            "attempts": [update.attempts for update in updates],
            "epochs": heard,
            "elastic": [losses(todo[-1]) for todo in (shrunk, grown)],
            "plain": [losses(todo[-1]) for todo in plain],
        }


def placement(folder: Path) -> dict[str, Any]:
    """Workers by node, of groups that fit on one and of one that does not; how many nodes hold the data, each once."""
    with head_without_work() as cluster:
        nodes = [cluster.add_node(num_cpus=2, object_store_memory=STORE) for _ in range(2)]
        found: dict[str, Any] = {}
        for name, size, groups in (("packed", 2, 1), ("two groups", 2, 2), ("spread", 3, 1)):
            pool = pool_of(folder, groups, ResourcesConfig(workers=size))
            with open_pool(pool):
                wait_for(lambda pool=pool, groups=groups: pool.size == groups, PATIENCE)
                pool.results(jobs(workload(folder), recipe(), folder / name))
                found[name] = [len(workers(node)) for node in nodes]
                found[f"copies, {name}"] = len(get_object_locations([pool._workload])[pool._workload]["node_ids"])
        return found


def study(folder: Path) -> dict[str, Any]:
    """A whole study from an empty cluster on: a node comes, another, then the first one goes."""
    raw = study_of(
        folder, 12, {"epochs": 12, "batch_size": SLOW, "optimizer": {"adamw": {"lr": {"float": [0.001, 0.1]}}}}
    )
    del raw["resources"]
    watch, sizes = Story(), set[int]()
    with head_without_work() as cluster:
        nodes: list[Any] = []

        def change() -> None:
            time.sleep(3)
            nodes.append(cluster.add_node(num_cpus=1, object_store_memory=STORE))
            wait_for(lambda: len(watch.ended) >= 2, PATIENCE)
            nodes.append(cluster.add_node(num_cpus=1, object_store_memory=STORE))
            wait_for(lambda: len(watch.started) - len(watch.ended) == 2, PATIENCE)
            sizes.add(2)
            wait_for(lambda: len(watch.ended) >= 5, PATIENCE)
            cluster.remove_node(nodes[0], allow_graceful=False)

        changing = threading.Thread(target=change)
        changing.start()
        run_here(folder / "runs", raw, watch)
        changing.join()
    return {
        "states": [record.state for record in watch.ended],
        "numbers": sorted(record.number for record in watch.ended),
        "grew": 2 in sizes,
    }


def losses(job: Job) -> list[float]:
    return [epoch["validation_loss"][task] for epoch in told(is_finished(job.payload))["history"] for task in TASKS]


def carry_out(study: Any, stages: list[Any]) -> None:
    use_threads(1)
    workspace = Workspace(study, DistributedContext())
    for stage in stages:
        run_stage(stage, workspace)


STORIES = {story.__name__: story for story in (growth, nobody, job_queue, elastic, placement, study, autoscaled)}

if __name__ == "__main__":
    place = Path(sys.argv[2])
    found = STORIES[sys.argv[1]](place)
    sys.stdout.write("\n" + json.dumps(found))
