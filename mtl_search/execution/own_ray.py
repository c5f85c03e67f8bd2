"""A Ray of the study's own on this machine, which leaves the cores to the training."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import ray


def start_here(cpus: int) -> None:
    """Start Ray.

    Args:
        cpus: Logical CPUs it has to give away.
    """
    with own_sigterm(), _in_turn(), _whole():
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    node = ray._private.worker.global_worker.node
    if node is not None:  # its monitor looks ten times a second for lines of logs to show here: nobody asked for them
        node.kill_log_monitor(check_alive=False)


@contextmanager
def _whole() -> Iterator[None]:
    """All or nothing: of a Ray whose start was broken off ``ray.shutdown`` knows nothing, and would end nothing."""
    me = psutil.Process()
    before = set(me.children(recursive=True))
    try:
        yield
    except BaseException:
        for child in set(me.children(recursive=True)) - before:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        raise


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Ray takes SIGTERM over; the driver's own handler, which has the study close its runs, is put back.

    Ray's, in C++ below Python's, would also kill the process by SIGALRM three seconds later, in the midst of closing.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _in_turn() -> Iterator[None]:
    """What is started here waits for its turn where all cores are busy.

    Each of Ray's processes wakes a hundred times a second, and would each time push the training from its core and
    its caches. As batch processes (``man 7 sched``) they run at the next tick, several in one go.
    """
    if not hasattr(os, "SCHED_BATCH") or os.sched_getscheduler(0) != os.SCHED_OTHER:
        yield  # no such thing here, or the user has chosen
        return
    with suppress(OSError):  # a container may forbid it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        if os.sched_getscheduler(0) == os.SCHED_BATCH:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
