"""What several commands need: studies found by name or file, lines printed."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl_search.config.fields import NAME_RULE, is_name
from mtl_search.errors import ConfigError, Problem

if TYPE_CHECKING:
    from mtl_search.cluster.job_server import JobServer
    from mtl_search.cluster.study_job import StudyJob
    from mtl_search.study_store.folder import StudyFolder
    from mtl_search.validation.prepare import Prepared

STUDY_SUFFIXES = (".yaml", ".yml")
STUDY_FILE = "a study file, or the name of a shipped one (see search_spaces/)"
STUDY_NAME = "a study's name, its study file, or its folder"
JSON = "print one JSON document on standard output, and everything else on standard error"
LOCAL = "run in this process alone, without Ray: one job after the other (small studies, debugging)"
OUTPUT = "storage folder (default: the study file's, else mtl_search_runs)"
ADDRESS = "the cluster, as in search --address (default: RAY_API_SERVER_ADDRESS or RAY_ADDRESS)"


def prepared_study(name: str, overrides: dict[str, Any]) -> "Prepared":
    """Read and check a study file and its data.

    Raises:
        ConfigError: Every rule that is broken.
    """
    from mtl_search.study_store.user_modules import use_folders
    from mtl_search.validation.study_file import find_study, load_study

    path = find_study(name)
    use_folders(path.parent)
    study = load_study(str(path), overrides)
    from mtl_search.validation.prepare import prepare  # takes seconds, and a mistake in the file is told without it

    return prepare(study)


def study_folder(arguments: argparse.Namespace, name: str | None = None) -> "StudyFolder":
    """The folder of a study that is named, or whose file or folder is.

    Args:
        arguments: ``output``, and ``study`` where no name is given.
        name: The study's name, file or folder.

    Raises:
        StudyError: There is no such study.
    """
    from mtl_search.study_store.folder import StudyFolder
    from mtl_search.study_store.user_modules import use_folders, use_folders_of

    given = Path(name or arguments.study)
    name, storage = named_study(name or arguments.study)
    folder = StudyFolder.at(name, arguments.output or storage)
    folder.read_config()
    use_folders_of(folder)
    if given.suffix in STUDY_SUFFIXES:
        use_folders(given.parent)
    return folder


def named_study(given: str) -> tuple[str, str]:
    """Name and storage of a study that is named, or whose file is.

    Raises:
        ConfigError: The file cannot be read.
    """
    from mtl_search.config.yaml_reading import read_yaml

    path = Path(given)
    if path.suffix not in STUDY_SUFFIXES:
        return given, "mtl_search_runs"
    raw = read_yaml(path)
    plain = raw if isinstance(raw, dict) else {}
    return str(plain.get("name", path.stem)), str(plain.get("storage", "mtl_search_runs"))


def study_jobs(arguments: argparse.Namespace) -> "tuple[JobServer, list[StudyJob]]":
    """A cluster's job server and the jobs of the study that is named, the one last at work first.

    Args:
        arguments: ``study`` and ``address``.

    Raises:
        ConfigError: No cluster is named.
        StudyError: The cluster has no job of this study.
    """
    from mtl_search.cluster.job_server import JobServer
    from mtl_search.pool.addresses import address_of

    name, _ = named_study(arguments.study)
    if not is_name(name):
        raise ConfigError([Problem("study", f"its name {NAME_RULE}", name)])
    address = address_of(arguments.address, server=True)
    if address is None:
        rule = "is needed: http://HOST:8265 of a cluster's dashboard, or auto on one of its machines"
        raise ConfigError([Problem("--address", rule)])
    server = JobServer(address)
    return server, server.jobs_of(name)


def print_line(line: str) -> None:
    """A line on standard output."""
    sys.stdout.write(line + "\n")
