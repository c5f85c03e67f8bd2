"""Storage: where studies, models and the cache lie: a folder that every node sees, or a URL such as ``s3://...``.

``place`` turns what a study file says into a path to work with. Whoever needs a file on this machine (memory mapping,
a library that takes file names) gets a copy of it, kept for the next time.
"""

import contextlib
import getpass
import os
import re
import tempfile
import time
import uuid
from functools import cache
from hashlib import sha256
from pathlib import Path

from mtl_search.errors import StorageError
from mtl_search.storage.remote import RemotePath

StoragePath = Path | RemotePath
_COPIES_BYTES = 16 << 30
"""Most that copies of remote files take up on a node; the oldest go first."""
_copies: dict[RemotePath, Path] = {}


def storage_path(where: str | Path | RemotePath) -> StoragePath:
    """The path that a text means, whatever the working folder of a process is."""
    if isinstance(where, RemotePath):
        return where
    text = str(where)
    if "://" not in text:
        return Path(where).expanduser().resolve()
    if text.startswith("file://"):
        return Path(text.removeprefix("file://").removeprefix("localhost")).resolve()
    return RemotePath.of(text)


def storage_problem(text: str) -> str | None:
    """The rule that a study file's ``storage`` breaks; None for a good one."""
    if "://" not in text:
        return None
    scheme, _, rest = text.partition("://")
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) or not rest.strip("/"):
        return "must be a folder or a URL such as s3://bucket/folder"
    if "?" in rest or "#" in rest:
        return "must be a URL without a query: keys and endpoints come from the environment (AWS_ENDPOINT_URL, ...)"
    user, at, _ = rest.partition("/")[0].rpartition("@")
    if at and (":" in user or not scheme.startswith(("abfs", "az"))):
        return "must hold no credentials: they come from the environment (AWS_ACCESS_KEY_ID, ...)"
    return None


@cache
def scratch() -> Path:
    """A folder of this user on this machine, for copies and working folders.

    Raises:
        StorageError: Somebody else made it.
    """
    folder = Path(tempfile.gettempdir()) / f"mtl_search-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise StorageError(f"{folder} belongs to somebody else: set TMPDIR to another folder")
    return folder


def local_copy(where: StoragePath) -> Path:
    """A file of this machine with the content; not to be written to. Remote files are got once.

    Raises:
        FileNotFoundError: There is no such file.
        StorageError: The store does not answer.
    """
    if isinstance(where, Path):
        return where
    if where not in _copies or not _copies[where].exists():
        signature = where.signature()
        if signature is None:
            raise FileNotFoundError(f"there is no {where}")
        told = signature if signature[1] else uuid.uuid4().hex  # without a time nobody knows whether it is the same
        name = sha256(f"{where} {told}".encode()).hexdigest()
        copy = scratch() / "copies" / name
        if not copy.exists():
            copy.parent.mkdir(exist_ok=True)
            _make_room(copy.parent, signature[0])
            aside = copy.with_name(f".{uuid.uuid4().hex}")
            try:
                where.download(aside)
                aside.replace(copy)
            finally:
                aside.unlink(missing_ok=True)
        _copies[where] = copy
    found = _copies[where].stat()
    os.utime(_copies[where], ns=(time.time_ns(), found.st_mtime_ns))  # used, and not changed
    return _copies[where]


def forget_copy(where: StoragePath) -> None:
    """Get it anew the next time."""
    if isinstance(where, RemotePath) and (copy := _copies.pop(where, None)) is not None:
        copy.unlink(missing_ok=True)


def _make_room(folder: Path, size: int) -> None:
    """Delete the copies that were not used for longest; an open one stays until it is closed, as ever on Linux."""
    known = []
    for path in folder.iterdir():
        try:
            known.append((path.stat().st_atime, path.stat().st_size, path))
        except FileNotFoundError:  # another process makes room too
            continue
    taken = sum(length for _, length, _ in known) + size
    for _, length, path in sorted(known):
        if taken <= _COPIES_BYTES:
            break
        path.unlink(missing_ok=True)
        taken -= length


def probe(folder: StoragePath) -> None:
    """See that files can be written in a folder, and read again.

    Raises:
        StorageError: They cannot; the message says why.
    """
    content = os.urandom(1 << 16)
    file = folder / f".probe-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        if file.read_bytes() != content:
            raise StorageError(f"cannot use {folder} as storage: what is written there does not come back")
    except OSError as error:
        raise StorageError(f"cannot write to the storage {folder}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError, StorageError):  # said already
            file.unlink(missing_ok=True)
