"""Submitting: a checked study file -> a Ray job whose command is this command line on the cluster.

Beside ``launch``, which the command of that job calls there.
"""

import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from mtl_search.cluster.job_server import JobServer
from mtl_search.cluster.runtime_env import runtime_env_for
from mtl_search.cluster.study_job import AGAIN, STORAGE, StudyJob
from mtl_search.cluster.working_dir import pack_working_dir
from mtl_search.errors import ConfigError, StudyError
from mtl_search.passwords import without_passwords
from mtl_search.validation.job_paths import job_path_problems
from mtl_search.validation.study_file import LoadedStudy

_TRACKING = "MLFLOW_TRACKING_URI"
_EXIT_CODES = {"SUCCEEDED": 0, "STOPPED": 130}


@dataclass(frozen=True)
class SubmittedJob:
    """A study's job, begun.

    Attributes:
        server: Where.
        job: Its id.
        address: As the user writes it.
        study: The study's name.
    """

    server: JobServer
    job: str
    address: str
    study: str

    @property
    def ways_back(self) -> list[str]:
        """Commands that find it again, a line each."""
        told = f"{self.study} --address {shlex.quote(without_passwords(self.address))}"
        return [f"mtl-search {verb} {told}" for verb in ("logs", "status", "stop")]


def submit(study: LoadedStudy, options: Sequence[str], address: str, notify: Callable[[str], None]) -> SubmittedJob:
    """Start a study's driver on a cluster.

    Args:
        study: The study file, with what the options change.
        options: Further words of the command line.
        address: The cluster's.
        notify: Told in a line what was chosen.

    Returns:
        The job.

    Raises:
        ConfigError: The study's places would not outlive the job, or its folder is too large.
        StudyError: The cluster cannot take it.
    """
    config, file = study.config, study.file
    assert file is not None
    uri = config.tracking.uri or _shared_uri(os.environ.get(_TRACKING))
    if problems := [each for each in job_path_problems(config, uri) if uri is not None or each.place != "tracking.uri"]:
        raise ConfigError(problems)  # without an address here, the cluster's own environment may name one
    server = JobServer(address)
    runtime_env = runtime_env_for(server)
    if uri is None and not runtime_env.tracking and (problems := job_path_problems(config, None)):
        raise ConfigError(problems)
    notify(runtime_env.words)
    with TemporaryDirectory(prefix="mtl-search-") as aside:
        folder = file.resolve().parent
        packed = pack_working_dir(folder, Path(aside) / "folder.zip")
        notify(f"packed {folder}: {packed.files} files, {packed.mib:.1f} MiB (not what .gitignore or .rayignore name)")
        environment = {**runtime_env.environment, "working_dir": str(packed.archive)}
        if uri is not None and config.tracking.uri is None:
            environment["env_vars"] = {_TRACKING: uri}
        command = ["search", file.name, *options]
        shown = without_passwords(address)
        kept = [word for word in command if word not in ("--json", "--resume")]
        going_on = [] if "--join" in kept else ["--resume"]
        again = [*kept, *going_on, "--address", shown]
        notes = {AGAIN: shlex.join(["mtl-search", *again]), STORAGE: without_passwords(config.storage)}
        job = server.submit(config.name, shlex.join(["python", "-m", "mtl_search.cli", *command]), environment, notes)
    return SubmittedJob(server, job, address, config.name)


def _shared_uri(uri: str | None) -> str | None:
    """MLflow's address in this shell, where the cluster may know it.

    Raises:
        StudyError: It holds a password: whoever sees the cluster's dashboard sees a job's environment.
    """
    if uri is None or not uri.startswith(("http://", "https://")):
        return None  # a file of this machine, or a database
    if without_passwords(uri) != uri:
        raise StudyError(
            f"{_TRACKING} holds a password, and a job's environment is shown to whoever sees the cluster: set it in "
            "the cluster's own environment, and take it out of this shell's"
        )
    return uri


def exit_code_of(job: StudyJob) -> int:
    """What the command that followed a job ends with: the job's own code."""
    if job.exit_code is not None:
        return job.exit_code if job.exit_code >= 0 else 1
    return _EXIT_CODES.get(job.state, 1)


def line_printer(stream: TextIO) -> Callable[[str], None]:
    """Writes pieces of a log as they come."""

    def notify(text: str) -> None:
        stream.write(text)
        stream.flush()

    return notify


def document_in(log: str) -> str | None:
    """The JSON document that ends a job's log; None where there is none."""
    _, begin, rest = log.rpartition("\n{\n")
    document = f"{{\n{rest}".rstrip()
    try:
        json.loads(document)
    except ValueError:
        return None
    return document if begin else None
