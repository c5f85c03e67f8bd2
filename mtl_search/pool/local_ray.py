"""A Ray of the study's own on this machine, which leaves the cores to the training; and how Ray is left."""

import gc
import hashlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import ray
from ray._common.utils import get_default_ray_temp_dir

from mtl_search.errors import StudyError

_LONGEST = 43
"""Bytes that are left for the folder by ``/session_2026-01-31_23-59-59_999999_4194304/sockets/plasma_store``."""
_SHORT_PLACES = ("/tmp", "/var/tmp", "/dev/shm")


def ray_folder(places: Sequence[str] = _SHORT_PLACES) -> str:
    """The folder for Ray to start in: the one that it would take by itself, or a short link to it.

    Args:
        places: Folders in which a link may be made.

    Raises:
        StudyError: Ray's own folder has too long a path, and no link to it can be made.
    """
    usual: str = get_default_ray_temp_dir()  # type: ignore[no-untyped-call]
    if len(os.fsencode(usual)) <= _LONGEST:
        return usual
    target = Path(usual).resolve()
    for place in places:
        with suppress(OSError):
            target.mkdir(parents=True, exist_ok=True)
            link = _linked(Path(place), target)
            if len(os.fsencode(link)) <= _LONGEST:
                return str(link)
    raise StudyError(
        f"the folder for temporary files is too long a path for Ray's sockets: {usual} has {len(os.fsencode(usual))} "
        f"bytes of at most {_LONGEST}; set TMPDIR, or RAY_TMPDIR alone, to a shorter one"
    )


def _linked(place: Path, target: Path) -> Path:
    """A link to a folder, in a folder of this user's alone.

    Raises:
        OSError: It cannot be made there, or somebody else has made the folder.
    """
    own = place / f"mtls-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    if own.is_symlink() or own.stat().st_uid != os.getuid():
        raise PermissionError(f"{own} belongs to somebody else")
    link = own / hashlib.sha256(os.fsencode(target)).hexdigest()[:8]
    with suppress(FileExistsError):
        link.symlink_to(target)
    return link


Handler = Callable[[int, FrameType | None], Any]
_log = logging.getLogger(__name__)


def start_local_ray(cpus: int) -> None:
    """Start Ray.

    Ray gives its processes 30 seconds to come up, which a busy machine may not keep; then it is started once more.

    Args:
        cpus: Logical CPUs it has to give away.

    Raises:
        StudyError: Ray does not come up.
    """
    folder = ray_folder()
    with keep_sigterm_handler(), _in_turn():
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
    if node is not None:  # nobody asked for them: 125 MiB, and a look for lines of logs ten times a second
        node.kill_log_monitor(check_alive=False)
        node.kill_dashboard(check_alive=False)
        node.kill_monitor(check_alive=False)  # of the autoscaler, which has nothing to scale here


def is_local_ray() -> bool:
    """Whether this process has started the Ray that it uses."""
    node = ray._private.worker.global_worker.node
    return node is not None and node.is_head()


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
    with _start_whole(), _deliver_interrupts():
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            _temp_dir=folder,
            _system_config={"num_workers_soft_limit": 1},  # processes that wait for a task: one is enough
        )


@contextmanager
def _deliver_interrupts() -> Iterator[None]:
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
def _start_whole() -> Iterator[None]:
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
def keep_sigterm_handler() -> Iterator[None]:
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
