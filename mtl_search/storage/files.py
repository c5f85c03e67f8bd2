"""Files written whole or not at all; plain JSON, read back without running code. Imports no torch."""

import errno
import hashlib
import json
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mtl_search.errors import DamagedError, StorageError
from mtl_search.storage.paths import StoragePath, forget_copy, scratch

RESULT_FILE = "result.json"
"""In the folder of a stage that has ended: what it came to."""
STOPPED_FILE, STOPPED_MODEL_FILE = "stopped.json", "stopped.safetensors"
"""In the folder of a joint stage that was stopped early: what it had come to, and its best model by then."""
_SEAL = '{\n "sha256": "'
_DIGITS = 64
_LEFT_SECONDS = 3600.0
_FULL = {errno.ENOSPC: "no space is left", errno.EDQUOT: "the quota is used up", errno.EFBIG: "the file is too large"}


@contextmanager
def replace_file(path: StoragePath) -> Iterator[Path]:
    """Give a temporary path of this machine to write to, and put it in place if the block succeeds.

    A reader, or a kill in between, sees the old content or the new, never a part. The file may be read and written by
    whom the umask allows it, whatever the writer.

    Raises:
        StorageError: There is no room, or the storage refuses.
    """
    try:
        if isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
            try:
                temporary.touch()
                mode = temporary.stat().st_mode
                yield temporary
                if temporary.stat().st_mode != mode:  # safetensors put a file of its own there, for this user alone
                    temporary.chmod(mode)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        else:
            with tempfile.TemporaryDirectory(dir=scratch(), prefix="written-") as folder:
                temporary = Path(folder) / path.name
                yield temporary
                path.upload(temporary)
            forget_copy(path)
    except OSError as error:
        reason = _FULL.get(error.errno or 0) or error.strerror or str(error)
        raise StorageError(f"cannot write {path}: {reason}") from error


@contextmanager
def read_errors(path: StoragePath) -> Iterator[None]:
    """A block that reads a file: a node whose storage does not answer is no fault of the recipe that it trains.

    Raises:
        FileNotFoundError: There is no such file.
        StorageError: There may be, and it cannot be read.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise StorageError(f"{path} cannot be read ({error.strerror})") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def remove_leftovers(path: Path) -> list[Path]:
    """Temporary files that kills in the middle of ``replacing`` left beside ``path``.

    Nobody has written to them for long: fresh ones may be another driver's, which makes the same file.
    """
    found = []
    for each in path.parent.glob(f".{path.name}.{'[0-9a-f]' * 32}"):
        with suppress(FileNotFoundError):  # put in place, or removed by another
            if time.time() - each.stat().st_mtime > _LEFT_SECONDS:
                found.append(each)
    return found


def remove_files(folder: StoragePath, *names: str) -> None:
    """Delete files of a folder that are there, in this order, and what kills in the middle of writing them left."""
    if isinstance(folder, Path):
        for path in (path for name in names for path in (folder / name, *remove_leftovers(folder / name))):
            path.unlink(missing_ok=True)
        return
    there = folder.sizes()
    for name in names:
        if name in there:
            (folder / name).unlink(missing_ok=True)


def write_json(path: StoragePath, data: Any) -> None:
    """Write plain JSON values atomically; NaN and infinities are kept."""
    _write(path, json.dumps(data, indent=1))


def write_json_once(path: Path, data: Any) -> None:
    """Write plain JSON values unless the file is there; of several writers at the same moment the first one counts.

    Raises:
        StorageError: There is no room, or the storage refuses.
    """
    if path.exists():
        return
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write_json(aside, data)
        path.hardlink_to(aside)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        write_json(path, data)
    finally:
        aside.unlink(missing_ok=True)


def write_sealed(path: StoragePath, data: dict[str, Any]) -> None:
    """The same with a digest of the text as a first entry, which ``read_json`` holds it against."""
    text = json.dumps(data, indent=1)
    _write(path, f'{_SEAL}{_digest(text)}"{"," if data else ""}{text[1:]}')


def _write(path: StoragePath, text: str) -> None:
    if isinstance(path, Path):
        with replace_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    else:
        path.write_bytes(text.encode())
        forget_copy(path)


def read_json(path: StoragePath) -> Any:
    """Read plain JSON values.

    Raises:
        FileNotFoundError: There is no such file.
        StorageError: There may be, and it cannot be read.
        DamagedError: It is no JSON, or not what was written.
    """
    with read_errors(path):
        content = path.read_bytes()
    try:
        text = content.decode()
        if text.startswith(_SEAL):
            start = len(_SEAL) + _DIGITS
            body = "{" + text[start + 1 :].removeprefix(",")
            if _digest(body) != text[len(_SEAL) : start]:
                raise DamagedError(f"{path} is damaged: its content has changed since it was written")
            return json.loads(body)
        return json.loads(text)
    except ValueError as error:
        raise DamagedError(f"{path} is damaged: {error}") from error


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
