"""Own modules: where the modules of a user's own lie that a study file names, such as ``python: {function: my_net:f}``.

``launch`` writes the folders down when a study is run. Whoever takes up the study later, from wherever, finds the
modules there.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl_search.storage.files import read_json, write_json
from mtl_search.variants.building import is_library

if TYPE_CHECKING:
    from mtl_search.study_store.folder import StudyFolder

_NAMED = re.compile(r"([A-Za-z_]\w*)[\w.]*:[A-Za-z_]\w*")


def use_folders(*folders: Path) -> None:
    """Let modules be imported from these folders, the first one first, and from the working folder."""
    for folder in (str(Path.cwd()), *(str(folder.resolve()) for folder in reversed(folders))):
        if folder not in sys.path:
            sys.path.insert(0, folder)


def keep_folders(study: "StudyFolder", config: Mapping[str, Any]) -> None:
    """Write down where the modules lie that a study's configuration names; they have been imported.

    Args:
        study: The study.
        config: Its configuration, plain.
    """
    roots = dict.fromkeys(found[1] for text in _texts(config) if (found := _NAMED.fullmatch(text)))
    if folders := list(dict.fromkeys(folder for root in roots if (folder := _folder_of(root)) is not None)):
        write_json(study.modules_file, folders)


def use_folders_of(study: "StudyFolder") -> None:
    """Let the modules of a study's own be imported from where they lay when it was run, if they still do."""
    file = study.modules_file
    use_folders(*(Path(folder) for folder in (read_json(file) if file.exists() else ()) if Path(folder).is_dir()))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        parts = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
        for part in parts:
            yield from _texts(part)


def _folder_of(root: str) -> str | None:
    """The folder that holds a top module or package; None for one of a library, and for one never imported."""
    module = sys.modules.get(root)
    if module is None or is_library(root):
        return None
    packages = list(getattr(module, "__path__", ()))
    place = packages[0] if packages else module.__file__
    return None if place is None else str(Path(place).resolve().parent)
