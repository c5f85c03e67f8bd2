"""Ray's start: connect to the cluster that the environment names, or start one on this machine."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from ray.exceptions import AuthenticationError

from mtl_search.config import ResourcesConfig
from mtl_search.errors import ConfigError, Problem, StudyError
from mtl_search.execution.addresses import asks_for_a_job, check_answers

_QUIET = {
    # Ray starts its processes at nice 15: any other program on the machine would starve the training.
    "RAY_worker_niceness": "0",
    # One process less per group; on a cluster that takes nodes away, a user's own setting of it stands.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Ray Train looks after its workers in this rhythm; the default of 2 s would be the length of many a short study.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
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


@dataclass(frozen=True)
class Capacity:
    """What Ray offers a study.

    Attributes:
        groups: Worker groups that run side by side.
        trial_cpus: Logical CPUs that a light Tune trial asks for.
        local: Whether this process started Ray itself.
    """

    groups: int
    trial_cpus: float
    local: bool


def start_ray(resources: ResourcesConfig) -> Capacity:
    """Connect to Ray and see how many worker groups fit.

    With ``RAY_ADDRESS`` set, or Ray connected already, the study runs on that cluster; else on this machine.

    Raises:
        ConfigError: Not even one group fits.
        StudyError: The cluster cannot be joined.
    """
    set_environment()
    local = not ray.is_initialized() and not os.environ.get("RAY_ADDRESS")
    if local:
        groups = _fitting(resources, {"CPU": float(_cores()), "GPU": float(_gpus())})
        # One logical CPU over what the groups use, shared by the trials: just as many fit as there are groups, and
        # Tune does not start a spare process for each.
        cpus = groups * resources.workers * resources.cpus_per_worker + 1
        with _own_sigterm():
            ray.init(
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
        return Capacity(groups, 1 / groups, local=True)
    if not ray.is_initialized():
        _join()
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1")
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    groups = _fitting(resources, {"CPU": total.get("CPU", 0.0) - 1, "GPU": total.get("GPU", 0.0)})
    return Capacity(groups, 1 / (groups + 1), local=False)


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
        with _own_sigterm():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except (OSError, AuthenticationError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise StudyError(
            f"no Ray cluster to join at {address} ({type(error).__name__}: {reason}); to submit a job from elsewhere: "
            "mtl-search search --address http://HOST:8265"
        ) from error


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray takes SIGTERM over; the driver's own handler, which has the study close its runs, is put back.

    Ray's, in C++ below Python's, would also kill the process by SIGALRM three seconds later, in the midst of closing.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def set_environment() -> None:
    """Set what Ray's processes read at their start, where the user has not."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def _fitting(resources: ResourcesConfig, offered: dict[str, float]) -> int:
    """How many worker groups to start."""
    per_group = {
        "CPU": resources.workers * resources.cpus_per_worker,
        "GPU": resources.workers * resources.gpus_per_worker,
    }
    fitting = min(int(offered[kind] / need + 1e-9) for kind, need in per_group.items() if need)
    wanted = resources.concurrent_trials
    if fitting < 1 or (wanted != "auto" and wanted > fitting):
        place = "resources.workers" if fitting < 1 else "resources.concurrent_trials"
        have = ", ".join(f"{offered[kind]:g} {kind}" for kind, need in per_group.items() if need)
        need_text = ", ".join(f"{need:g} {kind}" for kind, need in per_group.items() if need)
        rule = f"must fit what Ray offers ({have}); a worker group needs {need_text}"
        raise ConfigError([Problem(place, rule, resources.workers if fitting < 1 else wanted)])
    return fitting if wanted == "auto" else wanted


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> int:
    import torch  # the driver alone asks, and only once

    return torch.cuda.device_count()
