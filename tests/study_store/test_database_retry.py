"""Optuna's tables made by several at once, and a connection that breaks off in the midst, on a real PostgreSQL."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import create_engine, event, text

from mtl_search.study_store.database_retry import ask_again
from mtl_search.study_store.optuna_journal import leave_storage, open_storage

pytestmark = pytest.mark.timeout(120)


class Breaker:
    """Has the server end a storage's connection, as a rule once for each statement.

    Args:
        storage: What asks.
    """

    def __init__(self, storage: Any) -> None:
        self._engine, self._other = storage.engine, create_engine(storage.engine.url)
        self.broken: list[str] = []

    def before(self, words: str, meanwhile: str = "", times: float = 1) -> None:
        """Before the next statement that begins so; another statement is carried out while it is away."""

        def execute(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
            if statement.startswith(words) and self.broken.count(words) < times:
                self.broken.append(words)
                self._end(connection.connection.dbapi_connection.info.backend_pid)
                with self._other.begin() as other:
                    for each in filter(None, meanwhile.split(";")):
                        other.execute(text(each))

        event.listen(self._engine, "before_cursor_execute", execute)

    def close(self) -> None:
        """Leave the database."""
        self._other.dispose()

    def _end(self, process: int) -> None:
        with self._other.connect() as connection:
            assert connection.execute(text(f"SELECT pg_terminate_backend({process}, 5000)")).scalar()


@pytest.fixture
def storage(tmp_path: Path, postgres: Any) -> Iterator[Any]:
    opened: Any = open_storage(postgres.database("optuna"), tmp_path / "journal", lambda: None)
    yield opened
    leave_storage(opened)


@pytest.fixture
def breaker(storage: Any) -> Iterator[Breaker]:
    breaks = Breaker(storage)
    yield breaks
    breaks.close()


def test_drivers_that_begin_at_once_make_the_tables_once(tmp_path: Path, postgres: Any) -> None:
    url, together = postgres.database("begun"), Barrier(4)

    def begin(place: int) -> int:
        together.wait()
        storage: Any = open_storage(url, tmp_path / "journal", lambda: None)
        optuna.create_study(study_name="shared", storage=storage, load_if_exists=True).add_trial(
            optuna.trial.create_trial(value=float(place))
        )
        leave_storage(storage)
        return place

    with ThreadPoolExecutor(4) as drivers:
        begun = list(drivers.map(begin, range(4)))
    storage: Any = open_storage(url, tmp_path / "journal", lambda: None)
    trials = optuna.load_study(study_name="shared", storage=storage).trials
    leave_storage(storage)
    assert sorted(trial.value for trial in trials if trial.value is not None) == begun


def test_what_broke_off_is_asked_again_and_done_once(storage: Any, breaker: Breaker) -> None:
    study = optuna.create_study(study_name="broken", storage=storage)
    statements = ["INSERT INTO trials", "INSERT INTO trial_params", "INSERT INTO trial_user", "UPDATE trials", "SELECT"]
    for words in statements:
        breaker.before(words)
    trial = study.ask()
    rate = trial.suggest_float("rate", 0.0, 1.0)
    trial.set_user_attr("key", "value")
    study.tell(trial, 0.5)
    assert sorted(breaker.broken) == sorted(statements)
    (kept,) = optuna.load_study(study_name="broken", storage=storage).get_trials()
    assert (kept.state, kept.params, kept.user_attrs, kept.value) == (
        TrialState.COMPLETE,
        {"rate": rate},
        {"key": "value"},
        0.5,
    )


@pytest.mark.parametrize("words", ["SELECT trials", "SELECT trial_params"])
def test_reading_trials_that_broke_off_is_done_again(storage: Any, breaker: Breaker, words: str) -> None:
    study = optuna.create_study(study_name="read", storage=storage)
    for value in (0.1, 0.2):
        trial = study.ask()
        trial.suggest_float("rate", 0.0, 1.0)
        study.tell(trial, value)
    breaker.before(words)
    again = storage._get_trials(study._study_id, None, set(), -1)
    assert breaker.broken == [words]
    assert [(kept.value, list(kept.params)) for kept in again] == [(0.1, ["rate"]), (0.2, ["rate"])]


def test_what_breaks_off_each_time_is_an_error_at_last(storage: Any, breaker: Breaker) -> None:
    study = optuna.create_study(study_name="never", storage=storage)
    once = RDBStorage(storage.engine.url.render_as_string(hide_password=False), engine_kwargs={"pool_pre_ping": True})
    ask_again(once, patience=3.0)
    breaks = Breaker(once)
    breaks.before("INSERT INTO study_user", times=math.inf)
    with pytest.raises(optuna.exceptions.StorageInternalError):
        once.set_study_user_attr(study._study_id, "key", "value")
    assert len(breaks.broken) > 2
    breaks.close()
    leave_storage(once)


COMPLETED = (
    "INSERT INTO trial_values (trial_id, objective, value, value_type) SELECT trial_id, 0, 0.5, 'FINITE' FROM trials;"
    "UPDATE trials SET state = 'COMPLETE'"
)


def test_an_end_whose_answer_alone_was_lost_is_no_trouble(storage: Any, breaker: Breaker) -> None:
    study = optuna.create_study(study_name="answered", storage=storage)
    trial = study.ask()
    breaker.before("UPDATE trials", COMPLETED)
    study.tell(trial, 0.5)
    assert breaker.broken == ["UPDATE trials"]
    assert [(kept.state, kept.value) for kept in study.trials] == [(TrialState.COMPLETE, 0.5)]


@pytest.mark.parametrize("meanwhile", ["UPDATE trials SET state = 'FAIL'", COMPLETED.replace("0.5", "0.7")])
def test_an_end_that_another_gave_meanwhile_is_raised(storage: Any, breaker: Breaker, meanwhile: str) -> None:
    study = optuna.create_study(study_name="taken", storage=storage)
    trial = study.ask()
    breaker.before("UPDATE trials", meanwhile)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        study.tell(trial, 0.5)


def test_an_attribute_of_a_trial_that_another_ended_meanwhile_is_raised(storage: Any, breaker: Breaker) -> None:
    study = optuna.create_study(study_name="noted", storage=storage)
    trial = study.ask()
    breaker.before("INSERT INTO trial_user", "UPDATE trials SET state = 'COMPLETE'")
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        trial.set_user_attr("key", "value")


def test_another_trouble_than_a_lost_connection_is_raised(storage: Any) -> None:
    study = optuna.create_study(study_name="full", storage=storage)
    with pytest.raises(optuna.exceptions.StorageInternalError):
        study.set_user_attr("k" * 1000, 1)
