"""Patience with a database server that is away: whoever needs a new connection waits for it."""

import logging
import time
from typing import Any

from sqlalchemy import Engine, event

PATIENCE = 600.0
"""Seconds that a server may be away, e.g. while it is moved to another machine."""
_WAIT_SECONDS = 1.0
_log = logging.getLogger(__name__)


def wait_for_server(engine: Engine, patience: float = PATIENCE) -> None:
    """Have an engine that has reached its server once wait for it whenever it is away later.

    Args:
        engine: Tests a connection before it is used again (``pool_pre_ping``), so that each question begins with a
            living one. A file (SQLite) is never away.
        patience: Seconds until the driver's own error is let through.
    """
    if engine.dialect.name == "sqlite":
        return

    def connected(dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
        until, said = time.monotonic() + patience, False
        while True:
            try:
                return dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError as error:
                if time.monotonic() > until:
                    raise
                if not said:
                    _log.warning("the database of search.storage is away, and is waited for: %s", error)
                said = True
            time.sleep(_WAIT_SECONDS)

    event.listen(engine, "do_connect", connected)
