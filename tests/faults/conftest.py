"""A cluster to be broken, and drivers on it that end with the test that started them."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fault_cluster import FaultCluster
from fault_studies import Begin, Story, write_study


@pytest.fixture
def broken_cluster() -> Iterator[FaultCluster]:
    """A head; a test adds nodes and breaks what it likes."""
    with FaultCluster() as made:
        yield made


@pytest.fixture
def broken_cluster_of() -> Iterator[Callable[[], FaultCluster]]:
    """The same where the test sets something before: the caller makes it, once."""
    made: list[FaultCluster] = []

    def make() -> FaultCluster:
        made.append(FaultCluster())
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture(scope="module")
def shared_broken_cluster() -> Iterator[FaultCluster]:
    """The same for a file whose tests look at one study from several sides."""
    with FaultCluster() as made:
        yield made


@pytest.fixture(scope="session")
def begun(empty_database: Path) -> Begin:
    """Writes a study, with an empty MLflow database beside it, and runs a driver on it for a block of code."""

    @contextmanager
    def begin(place: Path, raw: dict[str, Any], *options: str) -> Iterator[Story]:
        if not (place / "tiny.yaml").exists():
            shutil.copy(empty_database, place / "mlflow.db")
            write_study(place, raw)
        story = Story.begin(place, *options)
        try:
            yield story
        finally:
            if story.command.process.poll() is None:
                story.command.process.kill()
                story.command.process.wait()

    return begin
