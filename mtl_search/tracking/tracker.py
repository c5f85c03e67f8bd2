"""The driver's side of tracking: every call writes one line to the journal and returns.

Called by the search for each trial and by the command line for the study; `delivery` takes what is written to MLflow.
"""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from mtl_search.tracking.driver_journals import TURNS, journal_of, last_said, undelivered_journals
from mtl_search.tracking.journal import PARENT, Journal, Position

if TYPE_CHECKING:
    from mtl_search.tracking.delivery import Delivery

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker:
    """Records one study in MLflow: a parent run, and one nested run per key.

    All `start_`, `log_`, `set_` and `end_` calls cost microseconds and may come from any thread. Time stamps are
    taken at the call. Events wait on disk while the server is away, and the next tracker on the same folder delivers
    what this one could not. As a context manager it starts and closes itself; left by an exception, it ends a study
    that is still open.

    Args:
        folder: Where the journal lies; one folder per study. Naming the same folder again resumes.
        uri: MLflow's tracking URI, e.g. ``http://localhost:5000`` or ``sqlite:////data/mlflow.db``.
        experiment: Name of the MLflow experiment; made if it does not exist.
        study: Name of the study; the parent run is called ``study <name>``.
        driver: Name of this driver where several run the study: it has a journal of its own in the folder, and does
            not end the study when it is left by an exception.

    Raises:
        StudyError: The folder holds something else under the journal's name.
    """

    def __init__(self, folder: Path, uri: str, experiment: str, study: str, driver: str | None = None) -> None:
        self._uri, self._experiment, self._study, self._driver = uri, experiment, study, driver
        self._folder = folder
        self._journal = Journal(folder, study) if driver is None else journal_of(driver, folder, study)
        self._position = Position(self._journal, uri, experiment)
        self._delivery: Delivery | None = None
        self._settings = ExitStack()
        self._study_open = False

    def start(self) -> "Tracker":
        """Starts the delivery thread; imports MLflow (about 2 s the first time in a process)."""
        if self._delivery is None:
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import
            # Here, in the caller's thread: imports that run in two threads at once can meet half-made modules.
            from mtl_search.tracking.delivery import Delivery
            from mtl_search.tracking.destination import Destination, quick_http

            self._settings.enter_context(quick_http())  # not in the thread: the environment is the whole process's
            journal = self._journal
            turns = None if self._driver is None else self._folder / TURNS
            destination = Destination(self._uri, self._experiment, self._study, journal.id, journal.path.parent, turns)
            self._delivery = Delivery(self._journal, self._position, destination)
            self._delivery.start()
        return self

    def __enter__(self) -> "Tracker":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._study_open and self._driver is None:
            self.end_study("FAILED" if issubclass(kind, Exception) else "KILLED")
        self.close()

    def start_study(self, params: Mapping[str, object], tags: Mapping[str, object]) -> None:
        """Opens the parent run; a resumed study opens the one it had.

        Args:
            params: Whatever JSON can say. MLflow's parameters cannot change: one that differs in a resumed study
                becomes the tag ``changed.<name>``.
            tags: ``mlflow.note.content`` is the description in MLflow's pages (Markdown).
        """
        self._study_open = True
        self._journal.append("start", PARENT, name=f"study {self._study}", params=dict(params), tags=dict(tags))

    def start_run(self, key: str, name: str, params: Mapping[str, object], tags: Mapping[str, object]) -> None:
        """Opens a run nested in the parent; a known key opens the run it had.

        Args:
            key: Unique within the study, e.g. the trial's number; not empty and not ``study``.
            name: What the pages show.
            params: As in `start_study`.
            tags: As in `start_study`.
        """
        if key in ("", PARENT):
            raise ValueError(f"the key {key!r} is the parent run's")
        self._journal.append("start", key, name=name, params=dict(params), tags=dict(tags))

    def log_metrics(self, key: str | None, metrics: Mapping[str, float], step: int, time_ms: int | None = None) -> None:
        """Adds a point to each curve; NaN and Inf are points too.

        Args:
            key: Run; None or empty for the parent.
            metrics: Name to value.
            step: Position on the curve, e.g. the epoch.
            time_ms: Milliseconds since 1970; now if None.
        """
        values = {name: float(value) for name, value in metrics.items()}
        self._journal.append("metrics", key or PARENT, time_ms, metrics=values, step=int(step))

    def log_text(self, key: str | None, path_in_artifacts: str, text: str) -> None:
        """Stores a text file with the run's artifacts; the same path again replaces it."""
        self._journal.append("text", key or PARENT, path=path_in_artifacts, text=text)

    def log_file(self, key: str | None, file: Path, folder_in_artifacts: str = "") -> None:
        """Stores a file with the run's artifacts under its own name; the same name again replaces it.

        The journal holds where it lies (seen from the journal, so a storage may be moved), not what is in it: the file
        must stay until it is delivered.
        """
        place = os.path.relpath(Path(file).resolve(), self._journal.path.parent.resolve())
        self._journal.append("file", key or PARENT, path=place, folder=folder_in_artifacts)

    def log_inputs(self, key: str | None, datasets: Sequence[Mapping[str, str]]) -> None:
        """Says which data the run has used; the same name and digest again changes nothing.

        Args:
            key: Run; None or empty for the parent.
            datasets: Each with ``name``, ``digest``, ``source_type``, ``source``, ``schema``, ``profile`` (the last
                three JSON) and ``context``, e.g. ``training``.
        """
        self._journal.append("inputs", key or PARENT, datasets=[dict(dataset) for dataset in datasets])

    def set_tags(self, key: str | None, tags: Mapping[str, object]) -> None:
        """Sets tags of a run; the same name again replaces the value."""
        self._journal.append("tags", key or PARENT, tags=dict(tags))

    def end_run(self, key: str, status: Status, tags: Mapping[str, object] | None = None) -> None:
        """Ends a run. It may be started again."""
        self._journal.append("end", key, status=status, metrics={}, tags=dict(tags or {}))

    def end_study(
        self, status: Status, metrics: Mapping[str, float] | None = None, tags: Mapping[str, object] | None = None
    ) -> None:
        """Ends the parent run, after giving it final metrics and tags; runs that are still open become KILLED."""
        values = {name: float(value) for name, value in (metrics or {}).items()}
        self._journal.append("end", PARENT, status=status, metrics=values, tags=dict(tags or {}))
        self._study_open = False

    def leave_open(self) -> None:
        """Say nothing of the study's end, whatever ends this process: it goes on elsewhere."""
        self._study_open = False

    def flush(self, timeout: float) -> int:
        """Waits until everything is delivered, at most so many seconds.

        Returns:
            Number of events still undelivered. They stay on disk.
        """
        until = time.monotonic() + timeout
        if self._delivery is not None:
            self._delivery.nudge()
        while (waiting := self._journal.waiting(self._position.offset)) and self._delivery is not None:
            left = until - time.monotonic()
            if left <= 0:
                break
            self._delivery.await_move(min(0.1, left))
        return waiting

    def close(self, timeout: float = 30.0) -> int:
        """Flushes and stops the thread; nothing can be said to this tracker afterwards.

        Returns:
            Number of events still undelivered. The next tracker on this folder delivers them.
        """
        waiting = self.flush(timeout)
        if self._delivery is not None:
            self._delivery.stop()
        self._settings.close()
        self._journal.close()
        return waiting

    def ended(self, key: str) -> bool:
        """Whether a run was ended well in this folder, by this process or one before, delivered or not."""
        return key in self._journal.ended

    def last_told(self, metric: str) -> dict[str, float]:
        """The last value of a metric in each run that has it, as said by any driver of the study so far."""
        return last_said(self._folder, "metrics", metric)

    def last_tagged(self, tag: str) -> dict[str, object]:
        """The last value of a tag in each run that has it, as said by any driver of the study so far."""
        return last_said(self._folder, "tags", tag)

    @property
    def age(self) -> float:
        """Seconds since the study began, by the clock on the wall; a resumed study began when it was first started."""
        return time.time() - self._journal.begun / 1000

    def run_id(self, key: str | None) -> str | None:
        """MLflow's id of a run; None until its start was delivered."""
        return self._delivery.run_id(key or PARENT) if self._delivery is not None else None

    @property
    def page(self) -> str | None:
        """Address of the page with the experiment's runs, to show to the user; None until something was delivered."""
        return self._delivery.page if self._delivery is not None else None

    @property
    def problem(self) -> str | None:
        """Why nothing can be delivered at present; None when all is well."""
        return self._delivery.problem if self._delivery is not None else None

    @property
    def rejected(self) -> int:
        """Number of events that this tracker set aside in ``rejected.jsonl`` because MLflow refuses them for ever."""
        return self._delivery.rejected if self._delivery is not None else 0


def deliver_left(folder: Path, uri: str, experiment: str, study: str) -> None:
    """Deliver what drivers that died have said and not delivered, a minute long at most; what is left stays on disk."""
    for driver in undelivered_journals(folder, study, uri, experiment):
        with Tracker(folder, uri, experiment, study, driver) as tracker:
            tracker.flush(60.0)
