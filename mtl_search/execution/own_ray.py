"""A Ray of the study's own on this machine, which leaves the cores to the training; and how Ray is left."""

import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import psutil
import ray

from mtl_search.errors import StudyError
from mtl_search.execution.ray_folder import ray_folder

Handler = Callable[[int, FrameType | None], Any]
_log = logging.getLogger(__name__)


def start_here(cpus: int) -> None:
    """Start Ray.

    Ray gives its processes 30 seconds to come up, which a busy machine may not keep; then it is started once more.

    Args:
        cpus: Logical CPUs it has to give away.

    Raises:
        StudyError: Ray does not come up.
    """
    folder = ray_folder()
    with own_sigterm(), _in_turn():
        try:
            _start(cpus, folder)
        except Exception as error:  # noqa: BLE001  Ray raises bare ones; said
            _log.warning("Ray did not start, and is started once more: %s", error)
            try:
                _start(cpus, folder)
            except Exception as again:
                reason = str(again).strip().partition("\n")[0]
                raise StudyError(
                    f"Ray did not start on this machine, twice ({type(again).__name__}: {reason}): wait until the "
                    "machine is less busy and go on with --resume; Ray's logs are in "
                    f"{folder}/session_latest/logs"
                ) from again
    node = ray._private.worker.global_worker.node
    if node is not None:  # its monitor looks ten times a second for lines of logs to show here: nobody asked for them
        node.kill_log_monitor(check_alive=False)


def stop_ray() -> None:
    """Leave Ray, and end it if ``start_ray`` started it.

    Garbage waits: a reference to one of Ray's objects that any thread frees in mid-shutdown ends the whole process.
    """
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if collects:
            gc.enable()


def _start(cpus: int, folder: str) -> None:
    with _whole(), _heeding_interrupts():
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            _temp_dir=folder,
        )


@contextmanager
def _heeding_interrupts() -> Iterator[None]:
    """A block that an interrupt ends, whenever it comes; Ctrl-C, and SIGTERM where that is handled alike.

    Ray starts its processes with a function to run before each, so Python runs its hooks of ``os.fork`` too, such as
    that which takes logging's lock. What a signal's handler raises in a hook is printed and dropped.
    """
    heard: list[BaseException] = []
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers: dict[int, Handler] = {number: handler for number, handler in found.items() if callable(handler)}
    if threading.current_thread() is not threading.main_thread():
        handlers = {}  # no signal is handled here

    def hear(number: int, frame: FrameType | None) -> None:
        try:
            handlers[number](number, frame)
        except BaseException as error:
            heard.append(error)
            raise

    for number in handlers:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is hear:  # Ray takes SIGTERM over
                signal.signal(number, handler)
        if heard:
            raise heard[0]


@contextmanager
def _whole() -> Iterator[None]:
    """All or nothing: of a Ray whose start was broken off ``ray.shutdown`` knows nothing, and would end nothing."""
    me = psutil.Process()
    before = set(me.children(recursive=True))
    try:
        yield
    except BaseException:
        stop_ray()  # where it is up already; its client ends this process where it loses it first
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
