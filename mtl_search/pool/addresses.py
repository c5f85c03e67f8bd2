"""Addresses: where a study runs: on a cluster that this process joins, or as a job that a cluster takes."""

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from mtl_search.errors import ConfigError, Problem

_JOINED = "RAY_ADDRESS"
_SERVER = "RAY_API_SERVER_ADDRESS"
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""What Ray sets in the environment of a job's command, and of nothing else."""
_FORM = re.compile(r"auto|[^\s/:@]+:\d+|\[[0-9a-fA-F:]+\]:\d+|(?:https?|ray)://[^\s/]+(?:/\S*)?")
_KNOCK = 10.0  # seconds
_RULE = "must be auto or HOST:PORT (a cluster that this machine is part of), or http://HOST:8265 or ray://HOST:10001"


def address_of(given: str | None, *, server: bool = False) -> str | None:
    """The address that was asked for, on the command line or else in the environment as Ray reads it.

    Args:
        given: Of the command line.
        server: Whether a job server is looked for; ``RAY_API_SERVER_ADDRESS`` counts then.

    Returns:
        The address, or None for a Ray of this process's own.

    Raises:
        ConfigError: It has another form.
    """
    if given is not None:
        if not _FORM.fullmatch(given):
            raise ConfigError([Problem("--address", _RULE, given)])
        return given
    return (os.environ.get(_SERVER) if server else None) or os.environ.get(_JOINED) or None


def asks_for_a_job(address: str | None) -> bool:
    """Whether a study at this address is a job of the cluster, and not a driver of this machine.

    A driver that reached the cluster through a Ray Client would send data and models through that one connection, so
    ``ray://`` asks for a job too.
    """
    return address is not None and address.startswith(("http://", "https://", "ray://"))


def join(address: str | None) -> None:
    """Let this process's Ray be that of the address."""
    if address is not None:
        os.environ[_JOINED] = address


def check_answers(address: str) -> None:
    """Knock at ``HOST:PORT``, where Ray itself would wait for minutes.

    Raises:
        OSError: Nobody opens.
    """
    host, _, port = address.rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK).close()


def in_a_job() -> bool:
    """Whether this process is the command of a Ray job, whoever submitted it."""
    return _JOB in os.environ


def job_notes() -> dict[str, str]:
    """Metadata of the Ray job that this process is the command of; empty elsewhere."""
    notes: dict[str, str] = json.loads(os.environ.get(_JOB, "{}")).get("metadata", {})
    return notes


@contextmanager
def without_environment() -> Iterator[None]:
    """Ray's clients would take an address of the environment for the one that they are given."""
    kept = {name: os.environ.pop(name) for name in (_JOINED, _SERVER) if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
