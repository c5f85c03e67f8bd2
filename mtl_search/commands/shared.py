"""What several commands need: studies found by name or file, lines printed."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl_search.launch import Prepared
    from mtl_search.search.folder import StudyFolder

STUDY_FILE = "a study file, or the name of a shipped one (see search_spaces/)"
STUDY_NAME = "a study's name, its study file, or its folder"
JSON = "print one JSON document on standard output, and everything else on standard error"
OUTPUT = "storage folder (default: the study file's, else mtl_search_runs)"


def prepared_study(name: str, overrides: dict[str, Any]) -> "Prepared":
    """Read and check a study file and its data.

    Raises:
        ConfigError: Every rule that is broken.
    """
    from mtl_search.catalog import find_study, load_study
    from mtl_search.launch import prepare, use_folder_of

    path = find_study(name)
    use_folder_of(path)
    return prepare(load_study(str(path), overrides))


def study_folder(arguments: argparse.Namespace, name: str | None = None) -> "StudyFolder":
    """The folder of a study that is named, or whose file or folder is.

    Args:
        arguments: ``output``, and ``study`` where no name is given.
        name: The study's name, file or folder.

    Raises:
        StudyError: There is no such study.
    """
    from mtl_search.reading import read_yaml
    from mtl_search.search.folder import StudyFolder

    name, storage = name or arguments.study, "mtl_search_runs"
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        raw = read_yaml(path)
        name = str(raw.get("name", path.stem)) if isinstance(raw, dict) else path.stem
        storage = str(raw.get("storage", storage)) if isinstance(raw, dict) else storage
    folder = StudyFolder.at(name, arguments.output or storage)
    folder.read_config()
    return folder


def print_line(line: str) -> None:
    """A line on standard output."""
    sys.stdout.write(line + "\n")
