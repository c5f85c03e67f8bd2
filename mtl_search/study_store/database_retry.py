"""Patience with a database server that is away: whoever needs a connection waits, and what broke off is asked again."""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError

PATIENCE = 600.0
"""Seconds that a server may be away, e.g. while it is moved to another machine."""
_WAIT_SECONDS = 1.0
_QUESTIONS = (
    "create_new_study",
    "get_all_studies",
    "get_study_directions",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_system_attrs",
    "get_study_user_attrs",
    "set_study_system_attr",
    "set_study_user_attr",
    "_create_new_trial",
    "_get_best_trial_id",
    "_get_trials",
    "get_trial",
    "get_trial_id_from_study_id_trial_number",
    "_set_trial_param",
    "set_trial_intermediate_value",
    "set_trial_system_attr",
    "set_trial_user_attr",
)
"""What Optuna asks of a database, by way of its cache or not; beside a trial's end."""
_away: set[str] = set()
"""Databases that are known to be away: a driver has several engines, and says it once."""
_log = logging.getLogger(__name__)


def wait_for_server(engine: Engine, notify: Callable[[str], None], patience: float = PATIENCE) -> None:
    """Have an engine that has reached its server once wait for it whenever it is away later.

    Args:
        engine: Tests a connection before it is used again (``pool_pre_ping``), so that each question begins with a
            living one. A file (SQLite) is never away.
        notify: Told in a line that the server is away, and that it is back.
        patience: Seconds until the driver's own error is let through.
    """
    if engine.dialect.name == "sqlite":
        return
    database = str(engine.url)

    def connected(dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
        until = time.monotonic() + patience
        while True:
            try:
                connection = dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError as error:
                if time.monotonic() > until:
                    raise
                if database not in _away:
                    _away.add(database)
                    reason = str(error).partition("\n")[0]
                    notify(
                        f"the database of search.storage is away, and is waited for {patience / 60:.0f} min "
                        f"(Ctrl-C, if need be twice, ends the study): {reason}"
                    )
            else:
                if database in _away:
                    _away.discard(database)
                    notify("the database of search.storage is back")
                return connection
            time.sleep(_WAIT_SECONDS)

    event.listen(engine, "do_connect", connected)


def ask_again(storage: RDBStorage, patience: float = PATIENCE) -> None:
    """Have a storage ask again what it asked when the server went away.

    A transaction that broke off has left nothing, unless it was at its very end and the answer alone was lost: a new
    trial that nobody has the number of then stays without a recipe, one that was queued is there twice, and one that
    was taken from the queue stays running until a driver closes it.

    Args:
        storage: Its engine waits for the server, see ``wait_for_server``.
        patience: Seconds after a question first broke off until that is an error.
    """
    for name in _QUESTIONS:
        setattr(storage, name, _again(getattr(storage, name), patience))

    def has_ended_so(trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        kept = storage.get_trial(trial_id)
        return kept.state is state and (values is None or kept.values == list(values))

    ending = _again(storage.set_trial_state_values, patience, has_ended_so)
    storage.set_trial_state_values = ending  # type: ignore[method-assign]


def _again(
    question: Callable[..., Any], patience: float, done: Callable[..., bool] = lambda *_, **__: False
) -> Callable[..., Any]:
    """A question that is asked again where it broke off.

    Args:
        question: Asked in one transaction.
        patience: As of ``ask_again``.
        done: Given the same, whether it was carried out and the answer alone was lost.
    """

    @functools.wraps(question)
    def ask(*arguments: Any, **options: Any) -> Any:
        until = None
        while True:
            try:
                return question(*arguments, **options)
            except StorageInternalError as error:
                now = time.monotonic()
                until = now + patience if until is None else until
                if now > until or not _broke_off(error):
                    raise
                _log.warning("the database of search.storage went away, and is asked again: %s", error.__cause__)
            except UpdateFinishedTrialError:
                if until is None or not done(*arguments, **options):  # else somebody has ended the trial meanwhile
                    raise
                return True
            time.sleep(_WAIT_SECONDS)

    return ask


def _broke_off(error: BaseException | None) -> bool:
    """Whether a lost connection is at the bottom of it; Optuna may have gone on with it and met the next error."""
    while error is not None:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return True
        error = error.__cause__ or error.__context__
    return False
