"""A study whose trials and whose MLflow server live in PostgreSQL, killed and resumed."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from driver_processes import Command, check_states, in_mid_trial, records
from mlflow_server import Server
from postgres_server import PASSWORD, Postgres
from small_studies import study_of, write_study
from trapped_backbone import SLOW

JOINT = {"epochs": 12, "batch_size": SLOW, "optimizer": {"adamw": {"lr": {"float": [1e-4, 1e-2], "log": True}}}}


@pytest.fixture
def server(tmp_path: Path, postgres: Postgres) -> Iterator[Server]:
    made = Server(tmp_path, postgres.database("mlflow"))
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_study_on_postgres_goes_on_and_everything_in_mlflow_is_right(
    tmp_path: Path, postgres: Postgres, server: Server, started: Callable[..., Command]
) -> None:
    storage = postgres.database("optuna")
    raw = study_of(tmp_path, 4, JOINT, storage=storage) | {"tracking": {"uri": server.uri}}
    write_study(tmp_path, raw)
    first = started(tmp_path)
    first.wait_until(in_mid_trial(tmp_path))
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    before = records(tmp_path)
    assert {record.state for record in before} >= {"complete", "running"}
    server.kill()  # away while the study is resumed, and back before it ends

    again = started(tmp_path, "--resume")
    again.wait_until(lambda: sum(record.state == "complete" for record in records(tmp_path)) >= 3)
    server.start()
    assert again.end() == 0, again.printed
    check_states(tmp_path, before, 4, server.uri)
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert next((tmp_path / "served").rglob("study.yaml")) in written
    assert not [file for file in written if PASSWORD.encode() in file.read_bytes()]
