"""Remote: a place in a bucket or on a file server, with as much of ``pathlib.Path`` as the storage needs.

``storage`` hands them out. Files are put and got whole: an object is there or not, never a part of one. The store's own
client is pyarrow's (S3, Google Cloud, Azure, HDFS), or fsspec's for any other scheme; credentials come from the
environment in the way of each.
"""

import errno
import fnmatch
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, final

from mtl_search.errors import StorageError

PATIENCE = 60.0
"""Seconds that a store may be away before what needs it fails."""
_OBJECTS = {"s3", "gcs", "abfs"}
"""Stores without folders: nothing has to be made before a file."""
_FINAL = (
    "access denied",
    "access_denied",
    "forbidden",
    "no_such_bucket",
    "invalid_access_key",
    "signature",
)
"""Words of an answer that waiting does not change."""
_REFUSED = re.compile(r"\b40[13]\b")
"""Statuses of such an answer."""
_NAMES = re.compile(r"'[^']*'")
_CHUNK = 1 << 22
Answer = TypeVar("Answer")


@cache
def _client(scheme: str, host: str) -> tuple[Any, str]:
    """The file system of an address, and how its paths begin.

    Raises:
        StorageError: No client knows the scheme, or there is no such place.
    """
    import fsspec
    from pyarrow import fs

    address = f"{scheme}://{host}"
    try:
        # A small file goes in one request instead of three.
        options = "?allow_delayed_open=true" if scheme == "s3" else ""
        system, root = fs.FileSystem.from_uri(f"{address}{options}")
        return system, str(root)
    except (ValueError, NotImplementedError, OSError) as error:
        reason = str(error).partition("\n")[0]
    try:
        system, root = fsspec.core.url_to_fs(address)
    except (ValueError, ImportError, OSError) as error:
        raise StorageError(f"cannot use {address} as storage: {reason}; {error}") from error
    return fs.PyFileSystem(fs.FSSpecHandler(system)), str(root)


@final
@dataclass(frozen=True)
class RemotePath:
    """One file or folder.

    Attributes:
        scheme: E.g. ``s3``.
        host: Bucket or server; may be empty.
        parts: Names from there on.
    """

    scheme: str
    host: str
    parts: tuple[str, ...] = ()

    @classmethod
    def of(cls, url: str) -> "RemotePath":
        """Read a URL."""
        scheme, _, rest = url.partition("://")
        host, *parts = rest.split("/")
        return cls(scheme, host, tuple(part for part in parts if part))

    def __str__(self) -> str:
        return f"{self.scheme}://{'/'.join((self.host, *self.parts))}"

    def __fspath__(self) -> str:
        raise TypeError(f"{self} is no path of this machine")

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(self.scheme, self.host, (*self.parts, *filter(None, name.split("/"))))

    @property
    def name(self) -> str:
        """The last part."""
        return self.parts[-1] if self.parts else self.host

    @property
    def parent(self) -> "RemotePath":
        """The folder around it."""
        return RemotePath(self.scheme, self.host, self.parts[:-1])

    def exists(self) -> bool:
        """Whether there is such a file, or a file in such a folder."""
        from pyarrow import fs

        return self._info().type is not fs.FileType.NotFound

    def signature(self) -> tuple[int, int] | None:
        """Size and time of the last change; None where there is no such file."""
        info = self._info()
        return (info.size, info.mtime_ns or 0) if info.is_file else None

    def read_bytes(self) -> bytes:
        """The content.

        Raises:
            FileNotFoundError: There is no such file.
            StorageError: The store does not answer, or refuses.
        """

        def got(system: Any, path: str) -> bytes:
            with system.open_input_stream(path) as stream:
                return bytes(stream.read())

        return self._ask("read", got)

    def read_text(self, encoding: str = "utf-8") -> str:
        """The content as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Put a whole file.

        Raises:
            StorageError: The store does not answer, or refuses.
        """

        def put(system: Any, path: str) -> None:
            with self._out(system, path) as stream:
                stream.write(content)

        self._ask("write", put)

    def upload(self, file: Path) -> None:
        """Put a local file here."""

        def put(system: Any, path: str) -> None:
            with file.open("rb") as source, self._out(system, path) as stream:
                shutil.copyfileobj(source, stream, _CHUNK)

        self._ask("write", put)

    def download(self, file: Path) -> None:
        """Get it as a local file."""

        def got(system: Any, path: str) -> None:
            with system.open_input_stream(path) as stream, file.open("wb") as target:
                shutil.copyfileobj(stream, target, _CHUNK)

        self._ask("read", got)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the file."""
        try:
            self._ask("delete", lambda system, path: system.delete_file(path))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: folders come with their files."""

    def sizes(self, *, below: bool = False) -> dict[str, int]:
        """Size in bytes of every file in this folder by name; with ``below`` in its folders too, by relative path."""
        return {name: size for name, size in self.entries(below=below).items() if size is not None}

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """Everything whose names match, a pattern for each part."""
        first, _, rest = pattern.partition("/")
        if any(sign in first for sign in "*?["):
            found = [self / name for name in self.entries() if fnmatch.fnmatchcase(name, first)]
        else:
            found = [self / first]
        for each in found:
            if rest:
                yield from each.glob(rest)
            elif first != "" and each.exists():
                yield each

    def entries(self, *, below: bool = False) -> dict[str, int | None]:
        """Size by name of what a folder holds; None for folders."""
        from pyarrow import fs

        def listed(system: Any, path: str) -> Any:
            return system.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=below))

        start = len(self._path) + 1
        found = sorted(self._ask("list", listed), key=lambda info: str(info.path))
        return {info.path[start:]: info.size if info.is_file else None for info in found}

    @property
    def _path(self) -> str:
        root = _client(self.scheme, self.host)[1].rstrip("/")
        return "/".join((root, *self.parts))

    def _info(self) -> Any:
        return self._ask("look at", lambda system, path: system.get_file_info(path))

    def _out(self, system: Any, path: str) -> Any:
        if system.type_name not in _OBJECTS:
            system.create_dir(path.rpartition("/")[0], recursive=True)
        return system.open_output_stream(path)

    def _ask(self, verb: str, question: Callable[[Any, str], Answer]) -> Answer:
        """Ask the store, and again for a while where it is away.

        Raises:
            FileNotFoundError: There is no such file.
            StorageError: It refuses, or is away for too long.
        """
        until, wait = time.monotonic() + PATIENCE, 0.25
        while True:
            try:
                return question(_client(self.scheme, self.host)[0], self._path)
            except FileNotFoundError:
                raise
            except OSError as error:
                reason = str(error).partition("\n")[0]
                hopeless = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
                if hopeless or _refuses(reason.replace(self._path, "")) or time.monotonic() > until:
                    raise StorageError(f"cannot {verb} {self}: {reason}") from error
            time.sleep(wait)
            wait = min(2 * wait, 5.0)


def _refuses(reason: str) -> bool:
    """Whether a store says no, by its own words and not by the names of bucket and file that it quotes."""
    said = _NAMES.sub("", reason).lower()
    return any(word in said for word in _FINAL) or _REFUSED.search(said) is not None
