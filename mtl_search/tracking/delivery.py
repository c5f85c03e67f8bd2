"""The thread that takes the journal to MLflow: in batches, for ever, from where it was.

Between the journal on disk and the destination. It is the only one to wait for MLflow; whoever kills the process loses
nothing, since the position moves only after a chunk of the journal has arrived.
"""

import fcntl
import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.logging_utils import suppress_logs_in_thread

from mtl_search.tracking.destination import Destination, RefusedError
from mtl_search.tracking.journal import Journal, Operation, Position, plan

_logger = logging.getLogger(__name__)

_INTERVAL = 5.0  # seconds between looks at the journal: MLflow takes 20 ms for an epoch, and little more for several
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 15.0  # seconds of back-off
_TRIES = 5  # failures of one operation, with a server that answers, until it is taken for a refusal
_REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST"}
_UNAVAILABLE = {
    "TEMPORARILY_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "CUSTOMER_UNAUTHORIZED",
}


class Delivery(threading.Thread):
    """Delivers one journal to one destination until told to stop.

    Args:
        journal: What to deliver.
        position: How far that is; moved on by this thread alone.
        destination: Where to.

    Attributes:
        problem: Why nothing is delivered at present; None when all is well.
        rejected: Number of events set aside.
    """

    def __init__(self, journal: Journal, position: Position, destination: Destination) -> None:
        super().__init__(name="mtl_search-tracking", daemon=True)  # daemon: a driver may end while the server is away
        self._journal, self._position, self._destination = journal, position, destination
        self._plan: deque[Operation] = deque()
        self._plan_end = 0
        self._tries = 0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._moved = threading.Condition()
        self.problem: str | None = None
        self.rejected = 0

    def nudge(self) -> None:
        """Delivers now rather than in a while; where the server was away, back-off begins anew."""
        self._wake.set()

    def await_move(self, timeout: float) -> None:
        """Waits until the position has moved, at most so many seconds."""
        with self._moved:
            self._moved.wait(timeout)

    def stop(self) -> None:
        """Ends the thread; waits a moment only, for it may be in the middle of a call to a server that hangs."""
        self._stopping.set()
        self._wake.set()
        self.join(2.0)

    def run_id(self, key: str) -> str | None:
        """MLflow's id of the run of a key, once it is known."""
        return self._destination.runs.get(key)

    @property
    def page(self) -> str | None:
        """Address of the page with the experiment's runs, once it is known."""
        return self._destination.page

    def run(self) -> None:
        """Body of the thread."""
        wait = _FIRST_WAIT
        with suppress_logs_in_thread(), self._alone():
            self._position.load()
            while not self._stopping.is_set():
                try:
                    self._deliver()
                    self.problem, wait, pause = None, _FIRST_WAIT, _INTERVAL
                except Exception as error:  # noqa: BLE001  said in `problem`, and tried again: tracking never ends by itself
                    self._notify(_in_short(error))
                    self._destination.disconnect()
                    wait, pause = min(2 * wait, _LONGEST_WAIT), wait
                if self._wake.wait(pause):
                    wait = _FIRST_WAIT
                self._wake.clear()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Waits until no other process delivers from this folder; the kernel lets go when a process is killed."""
        with self._journal.path.with_name("lock").open("w") as file:
            while not self._stopping.is_set():
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self._notify(f"another process delivers from {self._journal.path.parent}")
                    self._stopping.wait(_FIRST_WAIT)
            yield

    def _deliver(self) -> None:
        """Delivers all that the journal has; leaves by an exception when the server does not take it now."""
        while not self._stopping.is_set():
            if not self._plan:
                events, self._plan_end = self._journal.read(self._position.offset)
                if self._plan_end == self._position.offset:
                    return
                self._plan.extend(plan(events))
            self._destination.connect()
            if self._position.runs and not self._destination.total:
                # The server was emptied, or the experiment renamed: everything said so far is said again.
                self._plan.clear()
                self._position.save(0, 0)
                continue
            while self._plan and not self._stopping.is_set():
                self._step()
            if not self._plan:
                self._position.save(self._plan_end, self._destination.total)
                self.problem = None
                with self._moved:
                    self._moved.notify_all()

    def _step(self) -> None:
        """Applies the plan's first operation; one that is refused is split, and a single event is set aside."""
        operation = self._plan[0]
        try:
            self._destination.apply(operation)
        except Exception as error:
            self._tries += not _unreachable(error)
            refused = isinstance(error, RefusedError) or getattr(error, "error_code", None) in _REFUSALS
            if not refused and self._tries < _TRIES:
                raise
            self._plan.popleft()
            if len(operation.events) > 1:
                self._plan.extendleft(reversed(list(operation.split())))
            else:
                self._set_aside(operation, error)
        else:
            self._plan.popleft()
        self._tries = 0

    def _set_aside(self, operation: Operation, error: Exception) -> None:
        self._journal.set_aside(operation.events[0], f"{type(error).__name__}: {error}")
        if not self.rejected:
            folder = self._journal.path.parent
            _logger.warning(
                "MLflow refuses an event: %s; all such go to %s", _in_short(error), folder / "rejected.jsonl"
            )
        self.rejected += 1

    def _notify(self, problem: str) -> None:
        if self.problem is None:
            folder = self._journal.path.parent
            _logger.warning("MLflow cannot be reached; events wait in %s and are delivered later: %s", folder, problem)
        self.problem = problem


def _in_short(error: Exception) -> str:
    """The first line (a database's error goes on with pages of SQL); without an answer, the reason at its root."""
    causes = list(_causes(error))
    if any(isinstance(cause, requests.ConnectionError | requests.Timeout) for cause in causes):
        return f"no answer: {causes[-1]}"
    return f"{type(error).__name__}: {error}".partition("\n")[0][:300]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _unreachable(error: Exception) -> bool:
    """Whether a failure says nothing about the event: no answer, or a server that says to come again or wants a login.

    Requests raises `RetryError` for every status that MLflow would have retried; of those only 500 may be the event's
    fault.
    """
    for cause in _causes(error):
        if isinstance(cause, MlflowException) and cause.error_code in _UNAVAILABLE:
            return True
        if isinstance(cause, requests.ConnectionError | requests.Timeout):
            return True
        if isinstance(cause, requests.exceptions.RetryError) and "too many 500" not in str(cause):
            return True
    return False
