"""The worker's side of the pool: a Ray Train function that takes job after job, data and base staying in memory.

Every rank asks the job queue itself for its next job and for each epoch's verdict. Between two jobs nothing is left
but the workspace, so a job's result does not depend on what ran before it.
"""

import logging
import os
import pickle
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray.exceptions import RayActorError

from mtl_search.errors import DamagedError, StorageError, TrialError
from mtl_search.models.distributed import DistributedContext, use_threads
from mtl_search.pool.jobs import Lease, Shutdown
from mtl_search.pool.queue_client import DroppedJobError, WorkerQueueClient
from mtl_search.pool.row_reader import read_rows_ahead
from mtl_search.pool.stage_job import carry_out, failure_reason
from mtl_search.pool.storage_check import check_storage_here
from mtl_search.storage.reports import EpochReport
from mtl_search.training.stages import Stage
from mtl_search.training.workspace import Workload, Workspace

_log = logging.getLogger(__name__)


class JobControl:
    """Tells the job queue of each epoch, and asks it whether to go on (a ``training.control.Control``)."""

    def __init__(self, queue: WorkerQueueClient, lease: Lease) -> None:
        self._queue, self._lease = queue, lease

    def report(self, epoch: EpochReport) -> None:
        """Send an epoch's report. Who trained it stands in the message alone: results are the same on every group."""
        self._queue.report(self._lease, replace(epoch, group=self._queue.group))

    def proceed(self, epoch: int) -> bool:
        """Ask for an epoch's verdict."""
        return self._queue.proceed(self._lease, epoch)


def work(config: dict[str, Any]) -> None:
    """One worker's life in a group: join, then job after job until told to retire.

    Args:
        config: ``group`` (name), ``queue`` (client of the job queue), ``workload`` (object reference in a list, so
            that it is fetched once per node), ``precision``, ``activations``, ``threads``, ``location`` (the study's
            folder in the storage), and the driver's module search ``path`` and working ``folder``, so that a user's
            own modules and files are found here as they are there.
    """
    sys.path += [place for place in config["path"] if place not in sys.path]
    if Path(config["folder"]).is_dir():
        os.chdir(config["folder"])
    use_threads(config["threads"])
    try:
        _serve(config)
    except RayActorError:
        _log.error("the job queue is gone, and the study with it: worker retires")


def _serve(config: dict[str, Any]) -> None:
    world = DistributedContext.current(_device(), config["precision"])
    queue = _join(config, world)
    try:
        check_storage_here(config["home"])
        workload: Workload = ray.get(config["workload"][0])
        workspace = Workspace(workload, world, config["activations"], read_rows_ahead)
    except Exception as error:  # noqa: BLE001  told to the job queue, which tells the user
        # Returning, not raising: Ray Train would start the same again, for ever. The other ranks are told to retire.
        _log.exception("worker group %s cannot work", config["group"])
        queue.report_broken(f"cannot start: {failure_reason(error)}")
        return
    while True:
        try:
            while not isinstance(lease := queue.take(), Shutdown):
                _run_job(lease, workspace, queue)
        except DroppedJobError:
            if world.size > 1:  # other ranks may wait in a collective: Ray Train starts the group again
                raise
            queue = _join(config, world)
        else:
            return


def _device() -> torch.device:
    """This worker's device; without a GPU there is no need to ask Ray, which would import Tune for the answer."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    import ray.train.torch

    device = ray.train.torch.get_device()
    assert isinstance(device, torch.device)
    return device


def _join(config: dict[str, Any], world: DistributedContext) -> WorkerQueueClient:
    """Begin this group's life as the job queue knows it."""
    queue = WorkerQueueClient(config["queue"], config["group"], _new_incarnation(world))
    if world.rank == 0:
        queue.join()
    world.agree(True)
    queue.enrol(pickle.dumps(ray.get_runtime_context().current_actor))
    return queue


def _new_incarnation(world: DistributedContext) -> str:
    """A name for this life of the group, the same on all of its ranks."""
    name = [uuid.uuid4().hex]
    if world.size > 1:
        dist.broadcast_object_list(name, src=0, device=world.device if world.device.type == "cuda" else None)
    return name[0]


def _run_job(lease: Lease, workspace: Workspace, queue: WorkerQueueClient) -> None:
    """Do one job and tell its end. What goes wrong in it is the job's failure, not the worker's."""
    world = workspace.world
    try:
        stage: Stage = pickle.loads(lease.job.payload)  # noqa: S301  packed by this study's own driver
        result = carry_out(stage, workspace, JobControl(queue, lease))
    except DroppedJobError:
        raise
    except Exception as error:
        if isinstance(error, StorageError) and not isinstance(error, DamagedError):
            # No recipe is to blame, and the next job would meet the same: where all groups say so the study ends.
            # Raising ends the other ranks too, which may wait in a collective; Ray Train starts the group again.
            queue.report_broken(f"cannot go on: {error}")
            raise
        _log.exception("job %s failed on rank %d", lease.job.key, world.rank)
        if _is_partner_lost(error, world):  # the job is not to blame: it goes on when the group is back
            raise
        queue.fail(lease, failure_reason(error))
        if _needs_restart(error, world):
            raise
    else:
        if world.rank == 0:
            queue.finish(lease, result)
    if world.device.type == "cuda":
        torch.cuda.empty_cache()


def _is_partner_lost(error: Exception, world: DistributedContext) -> bool:
    """Whether a collective broke off. Gloo has no exception of its own, only words that name its source files."""
    return world.size > 1 and (isinstance(error, dist.DistError) or "/gloo/" in str(error))


def _needs_restart(error: Exception, world: DistributedContext) -> bool:
    """Whether the group cannot go on after a failed job.

    All ranks see the same divergence and go on together. Any other failure may be one rank's alone, and would leave
    the rest waiting in a collective; and a failed GPU kernel leaves a process that can do nothing more.
    """
    if isinstance(error, TrialError):
        return False
    poisoned = isinstance(error, torch.AcceleratorError) and not isinstance(error, torch.OutOfMemoryError)
    return world.size > 1 or poisoned
