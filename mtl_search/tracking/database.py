"""A database file in the place of a server: made whole before MLflow sees it, with the artifacts beside it.

Used by the destination before it connects; tracking URIs that name no file pass through.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from mtl_search.errors import MtlSearchError

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
