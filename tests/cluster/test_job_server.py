"""A cluster's job server, asked for through Ray's own client."""

from typing import Any

import pytest

from mtl_search.cluster import job_server
from mtl_search.cluster.job_server import JobServer
from mtl_search.errors import StudyError

FAILED = "Initialization failure from server:\nRuntimeError: Starting Ray client server failed."


class Client:
    """Stands for Ray's client, whose server dies as it starts, as often as it is told."""

    deaths = 0

    def __init__(self, address: str) -> None:
        if Client.deaths:
            Client.deaths -= 1
            raise ConnectionAbortedError(FAILED)

    def get_address(self) -> str:
        return "http://head:8265"


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(job_server, "JobSubmissionClient", Client)
    monkeypatch.setattr(Client, "deaths", 0)


@pytest.mark.parametrize("deaths", [0, 1, 2])
def test_a_client_s_server_that_dies_as_it_starts_is_asked_for_again(deaths: int) -> None:
    Client.deaths = deaths
    assert JobServer("ray://head:10001").url == "http://head:8265"


def test_one_that_always_dies_is_said() -> None:
    Client.deaths = 3
    with pytest.raises(StudyError, match=r"answers at ray://head:10001 \(Initialization failure.*server failed"):
        JobServer("ray://head:10001")
    assert Client.deaths == 0
