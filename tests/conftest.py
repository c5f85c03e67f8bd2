"""One Ray for all tests that need it: its start takes longer than most of them."""

import logging
from collections.abc import Iterator

import pytest
import ray

from mtl_search.execution.cluster import set_environment


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Ray on this machine, with room for a few pools: its CPUs are tickets, not cores."""
    set_environment()
    ray.init(
        num_cpus=7,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=False,
    )
    yield
    ray.shutdown()
