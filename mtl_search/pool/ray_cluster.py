"""Ray's start: connect to the cluster that the environment names, or start one on this machine."""

import logging
import os
from dataclasses import dataclass

import ray
from ray._private.state import state
from ray.exceptions import AuthenticationError

from mtl_search.config.study_config import ResourcesConfig
from mtl_search.errors import ConfigError, Problem, StudyError
from mtl_search.pool.addresses import asks_for_a_job, check_answers
from mtl_search.pool.local_ray import keep_sigterm_handler, ray_folder, start_local_ray

_QUIET = {
    # Ray starts its processes at nice 15: any other program on the machine would starve the training.
    "RAY_worker_niceness": "0",
    # One process less per group; on a cluster that takes nodes away, a user's own setting of it stands.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Ray Train looks after its workers in this rhythm; the default of 2 s would be the length of many a short study.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    # A group looks anew at what nodes there are in this rhythm while it waits for room.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # Of a Ray on this machine nobody reads the figures of its processes.
    "REPORTER_UPDATE_INTERVAL_MS": "60000",
    # Workers stay in the driver's folder: a user's backbone may read files beside it.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # The study's own storage holds what is needed to resume; Tune's snapshots would only cost time.
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",
    # Ctrl-C is the study's to handle: it closes runs and says how to go on.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_THRESHOLD_S": "30",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


_HEAD = "node:__internal_head__"
"""What Ray's head node alone has one of."""
_LIGHT = 0.001
"""Of that one, what a light process on the head asks for: it needs no room anywhere else."""
_PATIENCE, _LONG_PATIENCE = 300.0, 1800.0
"""Seconds a study waits for its first worker group, and where Ray's autoscaler may have to start a machine for it."""


@dataclass(frozen=True)
class Capacity:
    """What Ray offers a study.

    Attributes:
        groups: Worker groups that run side by side at first.
        most: How many it may come to.
        trial: What a light Tune trial asks for.
        patience: Seconds to wait while there is no group at all.
    """

    groups: int
    most: int
    trial: dict[str, float]
    patience: float


def start_ray(resources: ResourcesConfig, useful: int) -> Capacity:
    """Connect to Ray and see how many worker groups fit.

    With ``RAY_ADDRESS`` set, or Ray connected already, the study runs on that cluster; else on this machine.

    Args:
        resources: What a worker group is made of.
        useful: Groups that the study can keep busy.

    Raises:
        ConfigError: Not even one group fits, or could.
        StudyError: The cluster cannot be joined.
    """
    set_environment()
    wanted = useful if resources.concurrent_trials == "auto" else resources.concurrent_trials
    if not ray.is_initialized() and not os.environ.get("RAY_ADDRESS"):
        groups = _fitting_here(resources)
        # One logical CPU over what the groups use, shared by the trials: just as many fit as there are groups, and
        # Tune does not start a spare process for each.
        cpus = groups * resources.most_workers * resources.cpus_per_worker + 1
        start_local_ray(cpus)
        return Capacity(groups, groups, {"CPU": 1 / groups}, _PATIENCE)
    if not ray.is_initialized():
        _join()
    # Else Tune fills the groups one by one, each when the process of the one before is up; the searcher is the limit.
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "100")
    return _on_cluster(resources, wanted)


def check_local_resources(resources: ResourcesConfig) -> None:
    """See that a study can start where Ray is to be started on this machine; nothing is started yet.

    Raises:
        ConfigError: Not even one group fits.
        StudyError: Ray cannot make its sockets.
    """
    if not ray.is_initialized() and not os.environ.get("RAY_ADDRESS"):
        _fitting_here(resources)
        ray_folder()


def _on_cluster(resources: ResourcesConfig, wanted: int) -> Capacity:
    """As ``start_ray``, for a cluster: what does not fit yet is waited for where more may come."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    need = worker_needs(resources)
    workers = sum(_workers_on(node, need) for node in nodes)
    groups = workers // resources.most_workers or int(workers >= resources.fewest_workers)
    to_come = max_resources()
    if groups < 1:
        grown = to_come or {}
        feasible = all(grown.get(kind, 0) >= amount * resources.fewest_workers for kind, amount in need.items())
        empty = not any(node.get(kind, 0) >= 1 for node in nodes for kind in ("CPU", "GPU"))
        if not feasible and (to_come or not empty):
            raise ConfigError([_too_large_error(resources, to_come or _sums(nodes))])
    patience = _LONG_PATIENCE if to_come else _PATIENCE
    return Capacity(max(1, min(groups, wanted)), wanted, {_HEAD: _LIGHT}, patience)


def worker_needs(resources: ResourcesConfig) -> dict[str, float]:
    """What one worker asks of Ray."""
    need: dict[str, float] = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        need["GPU"] = resources.gpus_per_worker
    return need


def max_resources() -> dict[str, float] | None:
    """The most that Ray's autoscaler may bring the cluster to; None where there is none."""
    found = state.get_max_resources_from_cluster_config()
    return None if found is None else {kind: float(amount) for kind, amount in found.items()}


def no_room_error(resources: ResourcesConfig, seconds: float) -> str:
    """Why a study ends that has had no worker group for so many seconds."""
    need, offered = worker_needs(resources), ray.cluster_resources()  # type: ignore[no-untyped-call]
    have = ", ".join(f"{offered.get(kind, 0.0):g} {kind}" for kind in need)
    return (
        f"no worker group could start for {seconds:.0f} s: each needs {resources.fewest_workers} x "
        f"{', '.join(f'{amount:g} {kind}' for kind, amount in need.items())}, and the cluster has {have} in all; "
        "nothing finished is lost, go on with --resume"
    )


def _join() -> None:
    """Connect to the cluster of the environment.

    Raises:
        StudyError: There is none, it does not let this process in, or the address asks for a job.
    """
    address = os.environ["RAY_ADDRESS"]
    if asks_for_a_job(address):  # data and models would go through a Ray Client's one connection
        raise StudyError(
            f"the address {address} asks for a job, which `mtl-search search` alone submits; to join the cluster that "
            "this machine is part of, name it as auto or HOST:PORT"
        )
    try:
        check_answers(address)
        with keep_sigterm_handler():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except (OSError, AuthenticationError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise StudyError(
            f"no Ray cluster to join at {address} ({type(error).__name__}: {reason}); to submit a job from elsewhere: "
            "mtl-search search --address http://HOST:8265"
        ) from error


def set_environment() -> None:
    """Set what Ray's processes read at their start, where the user has not."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def _fitting_here(resources: ResourcesConfig) -> int:
    """How many worker groups to start on this machine."""
    have = {"CPU": float(_cores()), "GPU": float(_gpus())}
    workers = _workers_on(have, worker_needs(resources))
    fitting = workers // resources.most_workers or int(workers >= resources.fewest_workers)
    wanted = resources.concurrent_trials
    if fitting < 1:
        raise ConfigError([_too_large_error(resources, have)])
    if wanted == "auto":
        return fitting
    if wanted > fitting:
        rule = f"must fit what Ray offers ({fitting} worker groups of this size)"
        raise ConfigError([Problem("resources.concurrent_trials", rule, wanted)])
    return wanted


def _workers_on(node: dict[str, float], need: dict[str, float]) -> int:
    return min(int(node.get(kind, 0.0) / amount + 1e-9) for kind, amount in need.items())


def _sums(nodes: list[dict[str, float]]) -> dict[str, float]:
    return {kind: sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU")}


def _too_large_error(resources: ResourcesConfig, have: dict[str, float]) -> Problem:
    need = worker_needs(resources)
    offered = ", ".join(f"{have.get(kind, 0.0):g} {kind}" for kind in need)
    rule = f"must fit what Ray offers ({offered}); each worker needs " + ", ".join(
        f"{amount:g} {kind}" for kind, amount in need.items()
    )
    return Problem("resources.workers", rule, resources.workers)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> int:
    import torch  # the driver alone asks, and only once

    return torch.cuda.device_count()
