"""Packing: the folder of a study file as one archive that a Ray job works in.

What ``.gitignore`` and ``.rayignore`` name stays behind, as Ray has it, and so do results, environments and what
usually holds credentials.
"""

import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from mtl_search.errors import ConfigError, Problem

MOST_MIB = 100
"""Ray's job server takes no larger package."""
EXCLUDED = (
    *(".git", ".venv", "venv", "__pycache__", "*.pyc", ".*_cache", "node_modules", ".ipynb_checkpoints"),
    *("mtl_search_runs", "mlruns", "mlartifacts", "mlflow.db*"),
    *(".env", ".env.*", ".netrc", ".pgpass", ".my.cnf", ".ssh", ".aws", ".azure", ".config", ".kube", ".docker"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "id_rsa", "id_ecdsa", "id_ed25519", "credentials*", ".git-credentials"),
)
"""What never travels; the last two lines are what usually holds credentials."""
_IGNORE_FILES = (".gitignore", ".rayignore")
_SHOWN = 3


@dataclass(frozen=True)
class WorkingDir:
    """An archive of a folder.

    Attributes:
        archive: The file.
        files: How many files it holds.
        mib: Its size in MiB.
    """

    archive: Path
    files: int
    mib: float


def pack_working_dir(folder: Path, archive: Path) -> WorkingDir:
    """Write the archive of a folder.

    Args:
        folder: With the study file and what belongs to it.
        archive: To write, a ``.zip`` outside of the folder.

    Raises:
        ConfigError: The folder is a home or a system folder, or too large.
    """
    if folder in (home := Path.home(), *home.parents) or folder == Path("/tmp"):
        rule = "must lie in a folder of its own: all of that folder travels to the cluster"
        raise ConfigError([Problem("the study file", rule, str(folder))])
    sizes: dict[Path, int] = {}
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as packed:
        for file in _files(folder, []):
            packed.write(file, file.relative_to(folder))
            sizes[file.relative_to(folder)] = file.stat().st_size
            if archive.stat().st_size > MOST_MIB * 2**20:
                raise ConfigError([_too_large(folder, sizes)])
    if archive.stat().st_size > MOST_MIB * 2**20:
        raise ConfigError([_too_large(folder, sizes)])
    return WorkingDir(archive, len(sizes), archive.stat().st_size / 2**20)


def _files(folder: Path, rules: Sequence[tuple[Path, GitIgnoreSpec]]) -> Iterator[Path]:
    """Files to pack, smaller ones of a folder first. A link to a file is packed as that file, to a folder not."""
    own = [line for name in _IGNORE_FILES if (file := folder / name).is_file() for line in _lines(file)]
    held = [*rules, *([] if rules else [(folder, GitIgnoreSpec.from_lines(EXCLUDED))])]
    if own:
        held.append((folder, GitIgnoreSpec.from_lines(own)))

    def stays(path: Path, suffix: str) -> bool:
        return any(spec.match_file(path.relative_to(root).as_posix() + suffix) for root, spec in held)

    folders = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            folders += [] if stays(path, "/") else [path]
        elif entry.is_file() and not stays(path, ""):
            yield path
    for each in folders:
        yield from _files(each, held)


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines()


def _too_large(folder: Path, sizes: dict[Path, int]) -> Problem:
    largest = sorted(sizes, key=lambda file: sizes[file], reverse=True)[:_SHOWN]
    named = ", ".join(f"{file} ({sizes[file] / 2**20:.0f} MiB)" for file in largest)
    rule = (
        f"holds more than the {MOST_MIB} MiB that a Ray job may bring along, among it {named}: put large data where "
        "all nodes read it (a shared folder, s3://), and name what need not travel in .rayignore"
    )
    return Problem(str(folder), rule)
