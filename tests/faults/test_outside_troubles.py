"""What lies outside Ray goes wrong: MLflow's server and its database, the clock."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from driver_processes import records, tracked
from fault_cluster import FaultCluster
from fault_studies import Begin, check_end, steps, study_of
from mlflow_server import Server
from postgres_server import Postgres

pytestmark = [pytest.mark.timeout(480), pytest.mark.slow]

AWAY = float(os.environ.get("MTL_SEARCH_SERVER_AWAY", "60"))
"""Seconds that MLflow's server and database are down."""
JUMPS = "offset"
"""File with the seconds by which every Python process of the study sees the clock moved."""
CLOCK = f"""
import time
from pathlib import Path

real, real_ns = time.time, time.time_ns
file = Path(__file__).with_name("{JUMPS}")

def offset():
    try:
        return float(file.read_text() or 0)
    except (OSError, ValueError):
        return 0.0

time.time = lambda: real() + offset()
time.time_ns = lambda: real_ns() + int(offset() * 1e9)
"""


def test_nothing_is_lost_while_mlflow_and_its_database_are_away(
    tmp_path: Path, postgres: Postgres, broken_cluster: FaultCluster, begun: Begin
) -> None:
    broken_cluster.add(1, count=2)
    server = Server(tmp_path, postgres.database("mlflow"))
    raw = study_of(tmp_path, 10 + int(AWAY / 3), resources={"concurrent_trials": 2}, tracking={"uri": server.uri})
    try:
        server.start()
        with begun(tmp_path, raw) as story:
            story.command.wait_until(lambda: steps(tmp_path))
            story.command.wait_until(lambda: any(each.state == "complete" for each in records(tmp_path)))
            server.kill()
            postgres.crash()
            away, before = time.monotonic(), len(records(tmp_path))
            story.command.wait_until(lambda: time.monotonic() - away > AWAY)
            assert len(records(tmp_path)) > before, "the search does not wait for MLflow"
            postgres.start()
            server.start()
            assert story.command.end() == 0, story.command.printed
        check_end(tmp_path, raw["search"]["trials"], server.uri)
    finally:
        server.kill()


def test_a_study_waits_for_its_own_database_and_loses_nothing(
    tmp_path: Path, postgres: Postgres, broken_cluster: FaultCluster, begun: Begin
) -> None:
    broken_cluster.add(1, count=2)
    raw = study_of(tmp_path, 8, resources={"concurrent_trials": 2})
    raw["search"]["storage"] = postgres.database("optuna")
    with begun(tmp_path, raw) as story:
        story.command.wait_until(lambda: steps(tmp_path))
        story.command.wait_until(lambda: any(each.state == "complete" for each in records(tmp_path)))
        postgres.crash()
        away = time.monotonic()
        story.command.wait_until(lambda: time.monotonic() - away > AWAY)
        postgres.start()
        assert story.command.end() == 0, story.command.printed
    check_end(tmp_path, 8)


def test_a_clock_that_jumps_moves_nothing(
    tmp_path: Path, broken_cluster_of: Callable[..., FaultCluster], begun: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour ahead, then a day back, in the driver and in every process of Ray; the study has a time budget too."""
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(CLOCK)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "clock"), os.environ.get("PYTHONPATH", "")]))
    cluster = broken_cluster_of()
    cluster.add(1, count=2)
    raw = study_of(tmp_path, 6, resources={"concurrent_trials": 2})
    raw["search"]["time_budget"] = "30m"
    with begun(tmp_path, raw) as story:
        story.strike("clock an hour ahead", lambda: (tmp_path / "clock" / JUMPS).write_text("3600"))
        story.strike("clock a day back", lambda: (tmp_path / "clock" / JUMPS).write_text("-82800"))
        assert story.command.end() == 0, story.command.printed
    check_end(tmp_path, 6)
    assert all(run.info.end_time is not None for run in tracked(tmp_path).values())
    assert all(0 < (record.seconds or 0) < 300 for record in records(tmp_path)), "trials have taken what they took"
    story.note("outside")
    assert {cost.epochs for cost in story.costs().values()} == {0}
