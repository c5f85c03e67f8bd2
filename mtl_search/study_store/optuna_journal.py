"""Where Optuna keeps trials: a database, or a journal file made safe: half a line is cut off, a full disk is said."""

import logging
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, final

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import get_lock_file

from mtl_search.errors import DamagedError, StorageError, StudyError

_BACK, _TRIES = 1 << 16, 5
_log = logging.getLogger(__name__)


@final
class SafeJournal(JournalFileBackend):
    """The journal of a study.

    Args:
        path: The file.
        written: Called after every write.
    """

    def __init__(self, path: Path, written: Callable[[], None] = lambda: None) -> None:
        super().__init__(str(path))
        self._path, self._written = path, written

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Read entries.

        Raises:
            DamagedError: One in the middle is no entry.
        """
        # Optuna would keep where every line begins, and asks again for none but the next.
        self._log_number_offset = {log_number_from: self._log_number_offset[log_number_from]}
        try:
            yield from super().read_logs(log_number_from)
        except ValueError as error:
            raise DamagedError(f"the study's journal {self._path} is damaged: {error}") from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write entries.

        Raises:
            StorageError: They cannot be written; what was written in part is taken back.
        """
        try:
            if _torn(self._path):  # by a driver that died; another that is writing is waited for
                self._cut()
            super().append_logs(logs)
        except OSError as error:
            self._cut()
            raise StorageError(
                f"cannot write the study's journal {self._path}: {error.strerror or error}; nothing finished is lost, "
                "make room and go on with --resume"
            ) from error
        self._written()

    def _cut(self) -> None:
        with get_lock_file(self._lock):
            cut_torn_line(self._path)


def _torn(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, 2):
            return False
        file.seek(-1, 2)
        return file.read() != b"\n"


def cut_torn_line(path: Path) -> None:
    """Take away what stands after the last whole line: its writer was killed in it, and Optuna would choke on it."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = end = file.seek(0, 2)
        while end:
            start = max(0, end - _BACK)
            file.seek(start)
            last = file.read(end - start).rfind(b"\n")
            end = start + last + 1 if last >= 0 else start
            if last >= 0:
                break
        if end < size:
            _log.warning("%s ended in the middle of a line: %d bytes are cut off", path, size - end)
            file.truncate(end)


def open_storage(
    url: str, journal: Path, written: Callable[[], None], notify: Callable[[str], None] = lambda _: None
) -> BaseStorage:
    """Optuna's storage.

    Args:
        url: ``journal``, or that of a database.
        journal: The journal's file.
        written: Called after every write to it.
        notify: Told in a line that the database is away, and that it is back.

    Raises:
        StudyError: The database cannot be reached.
    """
    if url == "journal":
        return JournalStorage(SafeJournal(journal, written))
    from mtl_search.study_store.database_retry import ask_again, wait_for_server  # imports SQLAlchemy

    try:
        database = _database(url)
        wait_for_server(database.engine, notify)
        ask_again(database)
        return database
    except Exception as error:  # each database driver raises its own kinds
        reason = str(error).partition("\n")[0]
        raise StudyError(f"search.storage: cannot open the database ({type(error).__name__}: {reason})") from error


def leave_storage(storage: BaseStorage) -> None:
    """Give back a database's connections: a server has few. A journal holds none.

    Args:
        storage: As ``open_storage`` gives it, or as a study of Optuna holds it, behind a cache.
    """
    database = getattr(storage, "_backend", storage)
    if isinstance(database, RDBStorage):
        database.remove_session()
        database.engine.dispose()


class _Database(RDBStorage):
    """Optuna's, which leaves no connection behind where its tables cannot be made."""

    def __init__(self, url: str) -> None:
        try:
            super().__init__(url, engine_kwargs={"pool_pre_ping": True})  # a connection that died is noticed
        except Exception:
            if hasattr(self, "engine"):
                leave_storage(self)
            raise


def _database(url: str, tries: int = _TRIES) -> RDBStorage:
    """Open it; of drivers that make the tables at the same time one succeeds, the others are told that they exist."""
    from sqlalchemy.exc import DBAPIError, IntegrityError

    try:
        return _Database(url)
    except DBAPIError as error:
        if tries == 1 or not (isinstance(error, IntegrityError) or "already exists" in str(error)):
            raise
    time.sleep(1.0)
    return _database(url, tries - 1)
