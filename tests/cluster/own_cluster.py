"""A real Ray cluster of three nodes on this machine: own ports, own folder, own token, ended by its own process ids."""

import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests
from live_processes import RAY

ROOT = Path(__file__).parents[2]
NODES = (0, 2, 2)
"""CPUs of head and workers: a head without work of its own, as in deploy/."""


def free_ports(count: int) -> list[int]:
    """Ports below those that the system hands out, so that none of Ray's own processes takes one first."""
    found: list[int] = []
    while len(found) < count:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as tried:
            if port not in found and tried.connect_ex(("127.0.0.1", port)):
                found.append(port)
    return found


@dataclass(frozen=True)
class OwnCluster:
    """A running cluster.

    Attributes:
        address: Of its dashboard.
        joined: For a process on one of its machines.
        client: For a Ray Client.
        environment: Of a shell that holds the cluster's token.
    """

    address: str
    joined: str
    client: str
    environment: Mapping[str, str]


@contextmanager
def three_nodes(**variables: str) -> Iterator[OwnCluster]:
    """Start head and two workers; all of their processes are ended in the end.

    Args:
        variables: Further environment of the cluster's machines.
    """
    gcs, dashboard, client, *agents = free_ports(3 + len(NODES))
    shell = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    shell |= {"PATH": f"{Path(RAY).parent}:{shell['PATH']}", "PYTHONPATH": str(ROOT)}
    shell |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(24)}
    usual = ["--block", "--disable-usage-stats", "--min-worker-port=0", "--max-worker-port=0"]
    # A short path, since sockets lie there.
    with tempfile.TemporaryDirectory(prefix="rj", dir="/tmp", ignore_cleanup_errors=True) as folder:
        nodes: list[subprocess.Popen[bytes]] = []

        def start(cpus: int, agent: int, *options: str) -> None:
            command = [RAY, "start", *options, *usual, f"--num-cpus={cpus}", f"--dashboard-agent-listen-port={agent}"]
            command.append(f"--temp-dir={folder}/{len(nodes)}")  # as on machines of their own: nodes clear each other's
            with (Path(folder) / f"node-{len(nodes)}").open("wb") as printed:
                nodes.append(
                    subprocess.Popen(
                        command, env=shell | variables, cwd="/tmp", stdout=printed, stderr=subprocess.STDOUT
                    )
                )

        try:
            head = [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
            start(NODES[0], agents[0], "--head", *head)
            url = f"http://127.0.0.1:{dashboard}"
            bearer = {"Authorization": f"Bearer {shell['RAY_AUTH_TOKEN']}"}
            _wait_for(lambda: requests.get(f"{url}/api/version", headers=bearer, timeout=5).ok)
            for cpus, agent in zip(NODES[1:], agents[1:], strict=True):
                start(cpus, agent, f"--address=127.0.0.1:{gcs}")
            _wait_for(lambda: _alive(url, bearer) == len(NODES))
            yield OwnCluster(url, f"127.0.0.1:{gcs}", f"ray://127.0.0.1:{client}", shell)
        finally:
            _end(nodes)


def _alive(url: str, bearer: Mapping[str, str]) -> int:
    found = requests.get(f"{url}/api/v0/nodes", headers=dict(bearer), timeout=10).json()
    return sum(node["state"] == "ALIVE" for node in found["data"]["result"]["result"])


def _wait_for(what: object, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if what():  # type: ignore[operator]
                return
        except (requests.RequestException, KeyError, ValueError):
            pass
        assert time.monotonic() < deadline
        time.sleep(0.5)


def _end(nodes: list[subprocess.Popen[bytes]]) -> None:
    family = {
        child for node in nodes if node.poll() is None for child in psutil.Process(node.pid).children(recursive=True)
    }
    for node in nodes:
        node.send_signal(signal.SIGKILL)
        node.wait(30)
    for child in family:
        if child.is_running():
            child.kill()
    psutil.wait_procs(family, timeout=30)
