"""One Ray and one empty MLflow database for all tests that need them: making them takes longer than most tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtl_search.pool.local_ray import start_local_ray, stop_ray
from mtl_search.pool.ray_cluster import set_environment


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Ray on this machine, with room for a few pools: its CPUs are leases, not cores."""
    set_environment()
    start_local_ray(7)
    yield
    stop_ray()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A plain loop of the test's own counts with one thread, as a worker does."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def s3_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from s3_server import S3

    server = S3(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_process: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A real S3 server, its credentials in the environment, its bucket empty."""
    for name, value in s3_process.environment.items():
        monkeypatch.setenv(name, value)
    s3_process.clear()
    return s3_process


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A PostgreSQL server of this test's own; its password is in the environment."""
    from postgres_server import PASSWORD, Postgres, programs

    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    server = Postgres(found)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def no_tracking_uri() -> Iterator[None]:
    """MLflow writes the URI that a test sets to the environment too, where later tests' processes would find it."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    yield
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri("")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables take seconds to make: once for all tests."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{file}"]
    subprocess.run(command, check=True, capture_output=True)
    return file


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"
