"""One experiment on one MLflow server: finds or makes this journal's runs there, and applies operations to them.

Behind the delivery thread; only this file and ``pages`` talk to MLflow. Everything here may be done twice with the same
outcome, because a delivery that was cut off starts again a little earlier: runs are found by their tags, and metrics
and parameters that are already there stay as they are.
"""

import getpass
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  MLflow imports it on first use, and that would be in the thread
from mlflow import MlflowClient
from mlflow.entities import Param, Run, ViewType

from mtl_search.errors import MtlSearchError
from mtl_search.tracking.driver_journals import take_turn
from mtl_search.tracking.entities import (
    clean,
    cut,
    dataset_input,
    describe_experiment,
    kind_tag,
    points,
    run_tags,
    runs_page,
)
from mtl_search.tracking.journal import PARENT, Event, Operation

_SQLITE = "sqlite:///"


def _sqlite_file(uri: str) -> Path | None:
    name = uri.removeprefix(_SQLITE).partition("?")[0]
    return Path(name).absolute() if uri.startswith(_SQLITE) and name not in ("", ":memory:") else None


def artifacts_beside(uri: str) -> str | None:
    """Beside the database file, since MLflow's default depends on the working folder; a server knows its own place."""
    file = _sqlite_file(uri)
    return None if file is None else str(file.parent / "mlartifacts")


def make_database(uri: str) -> None:
    """Makes a new database file with its tables, in a process of its own, and puts it in place when it is whole.

    It takes seconds of computing, and alembic's state is global to a process: in this one it would meet Optuna's.
    """
    file = _sqlite_file(uri)
    if file is None or file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".mlflow-", dir=file.parent) as aside:
        made = Path(aside) / file.name
        command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"{_SQLITE}{made}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise MtlSearchError(f"MLflow could not make its tables in {file}: {done.stderr.strip()[-500:]}")
        try:
            file.hardlink_to(made)
        except FileExistsError:
            pass  # another process was faster, and may have written to it since
        except OSError:  # a file system without hard links
            made.rename(file)


_PAGE = 1000
"""Runs that MLflow is asked for at a time."""
_MAX_PARAM = 6000  # characters; MLflow refuses or cuts what is longer
_HTTP = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the delivery retries; MLflow's retries take minutes and warn on stderr
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class RefusedError(MtlSearchError):
    """An event that cannot be delivered here, however often it is tried."""


@contextmanager
def quick_http() -> Iterator[None]:
    """MLflow's HTTP settings while delivering: notice soon that the server is away. What the user has set stays."""
    added = [name for name in _HTTP if name not in os.environ]
    os.environ.update({name: _HTTP[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


class Destination:
    """This journal's runs in one experiment.

    Args:
        uri: MLflow's tracking URI.
        experiment: Name; made if missing.
        study: Name of the study, a tag of every run.
        journal: The journal's id, a tag of every run: a study of the same name elsewhere is not taken for this one.
        folder: The journal's, from which its files are seen.
        turns: File to lock for what several drivers must do once; None where one driver alone makes the runs.

    Attributes:
        runs: Key to run id, of the study's run and of those that something was said of since the last ``connect``.
        total: 0 where no run of this journal is there; deleted ones are.
    """

    def __init__(
        self, uri: str, experiment: str, study: str, journal: str, folder: Path, turns: Path | None = None
    ) -> None:
        self._turns = turns
        self.uri, self.experiment = uri, experiment
        self._study, self._journal, self._folder = study, journal, folder
        self.runs: dict[str, str] = {}
        self.total = 0
        self._all_known = False
        self._open: set[str] = set()
        self._experiment_id = ""
        self._client: MlflowClient | None = None

    def connect(self) -> None:
        """Finds the experiment and the study's run; at once where that was done and nothing failed since.

        Of other runs it asks when something is said of them: MLflow takes 3 ms for each, and studies have thousands.
        """
        if self._client is not None:
            return
        make_database(self.uri)
        client = MlflowClient(self.uri)
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            made = client.create_experiment(self.experiment, artifacts_beside(self.uri), kind_tag())
            found = client.get_experiment(made)
        elif found.lifecycle_stage != "active":
            raise MtlSearchError(f"experiment {self.experiment!r} is deleted in MLflow: restore it or name another one")
        self._experiment_id = found.experiment_id
        describe_experiment(client, found)
        self.runs, self._open = {}, set()
        self.total = len(list(self._search(client, most=1)))
        self._all_known = self._turns is None and not self.total  # nobody else makes any
        if self.total:
            self._run(client, PARENT)
            self._find_open(client)
        self._client = client

    def disconnect(self) -> None:
        """Forgets what is there, so that the next connect looks again; after any failure whose effect is unknown."""
        self._client = None

    def _run(self, client: MlflowClient, key: str) -> str | None:
        """The run of a key; an earlier process or another driver may have made it."""
        if key not in self.runs and not self._all_known:
            self._note(self._search(client, f" AND tags.`mtl_search.key` = '{key}'" if "'" not in key else ""))
        return self.runs.get(key)

    def _find_open(self, client: MlflowClient) -> None:
        self._open.clear()
        self._note(self._search(client, " AND attributes.status = 'RUNNING'"))

    def _note(self, runs: Iterator[Run]) -> None:
        """Take up runs that are there."""
        for run in runs:
            if run.info.lifecycle_stage == "active":
                key = run.data.tags["mtl_search.key"]
                self.runs[key] = run.info.run_id
                if run.info.status == "RUNNING":
                    self._open.add(key)

    def _search(self, client: MlflowClient, only: str = "", most: int | None = None) -> Iterator[Run]:
        mine, token = f"tags.`mtl_search.journal` = '{self._journal}'{only}", None
        while True:
            page = client.search_runs([self._experiment_id], mine, ViewType.ALL, most or _PAGE, page_token=token)
            yield from page
            token = page.token
            if not token or most is not None:
                return

    @property
    def page(self) -> str | None:
        """Address of the page with the experiment's runs; None where none is known, or before the first ``connect``."""
        return runs_page(self.uri, self._experiment_id) if self._experiment_id else None

    def apply(self, operation: Operation) -> None:
        """Applies one operation.

        Raises:
            RefusedError: It can never be applied.
            MlflowException: As MLflow says.
        """
        if self._client is None:
            raise RuntimeError("apply needs connect first")
        (first, *_), client = operation.events, self._client
        if operation.kind == "torn":
            raise RefusedError("the line is torn: its writer was killed in the middle of it")
        if operation.kind == "start":
            with take_turn(self._turns) if self._turns and operation.key == PARENT else nullcontext():
                self._start(client, first)
            return
        run = self._run(client, operation.key)
        if run is None:
            raise RefusedError(f"no run with key {operation.key!r} was started, or it was deleted")
        match operation.kind:
            case "metrics":
                client.log_batch(run, metrics=[point for event in operation.events for point in points(event)])
            case "tags":
                client.log_batch(run, tags=run_tags(first.body["tags"]))
            case "text":
                client.log_text(run, first.body["text"], first.body["path"])
            case "file":
                self._upload(client, run, first)
            case "inputs":
                client.log_inputs(run, [dataset_input(dataset) for dataset in first.body["datasets"]])
            case "end":
                self._end(client, run, first)
            case kind:
                raise RefusedError(f"there is no kind {kind!r}")

    def _start(self, client: MlflowClient, event: Event) -> None:
        params = {clean(name): cut(value, _MAX_PARAM) for name, value in event.body["params"].items()}
        tags = event.body["tags"]
        run = self._run(client, event.key)
        if run is None:
            run = self._create(client, event)
        else:
            there = client.get_run(run)
            if self._turns and there.info.status != "RUNNING" and (there.info.end_time or 0) >= event.time:
                return  # said by a driver that died, and delivered only now: another has ended the run since
            client.update_run(run, "RUNNING", event.body["name"])
            had = there.data.params
            tags = tags | {
                f"changed.{name}": params[name] for name in params if had.get(name, params[name]) != params[name]
            }
            params = {name: value for name, value in params.items() if name not in had}
        self._open.add(event.key)
        client.log_batch(run, params=[Param(name, value) for name, value in params.items()], tags=run_tags(tags))

    def _create(self, client: MlflowClient, event: Event) -> str:
        tags = {
            "mlflow.user": _user(),
            "mlflow.source.name": "mtl_search",
            "mlflow.source.type": "LOCAL",
            "mtl_search.study": self._study,
            "mtl_search.key": event.key,
            "mtl_search.journal": self._journal,
        }
        if event.key != PARENT and (parent := self._run(client, PARENT)) is not None:
            tags["mlflow.parentRunId"] = parent
        created = client.create_run(self._experiment_id, event.time, tags, event.body["name"])
        self.runs[event.key] = created.info.run_id
        self.total += 1
        return str(created.info.run_id)

    def _upload(self, client: MlflowClient, run: str, event: Event) -> None:
        file = self._folder / event.body["path"]
        if not file.is_file():
            raise RefusedError(f"there is no file {file.resolve()}")
        client.log_artifact(run, str(file), event.body["folder"] or None)

    def _end(self, client: MlflowClient, run: str, event: Event) -> None:
        client.log_batch(run, metrics=points(event), tags=run_tags(event.body["tags"]))
        if event.key == PARENT:
            if self._turns is not None:
                self._find_open(client)
            for key in sorted(self._open - {PARENT}):
                client.set_terminated(self.runs[key], "KILLED", event.time)
                self._open.discard(key)
        client.set_terminated(run, event.body["status"], event.time)
        self._open.discard(event.key)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user id has no name
        return str(os.getuid())
