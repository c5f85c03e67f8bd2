"""A real Ray cluster on this machine, a raylet for each node, whose processes can be found by title and killed."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import ray
from live_processes import RAY, title, wait_for
from ray._raylet import GcsClient

SETTINGS = {
    # Where this user has once made a token, `ray start` would ask for it and a driver would not show it.
    "RAY_AUTH_MODE": "disabled",
    # Ray takes a silent node for dead after 3 s (period) x 5 (times): a part of that, so that the tests are short.
    "RAY_health_check_period_ms": "1000",
    # For a minute everybody waits for Ray's records to come back; on a laptop's cluster they never do.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
}
_STORE = 80 * 2**20


def runs(process: psutil.Process) -> bool:
    """Whether a process is there and no mere entry in the system's table."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def free_port() -> int:
    """A port below those that the system hands out, so that none of Ray's own processes takes it first."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)):
                return port


@dataclass(frozen=True)
class Node:
    """One node: ``ray start``, whose children are the node's own processes."""

    start: psutil.Process
    first: tuple[psutil.Process, ...]
    ip: str

    @property
    def processes(self) -> list[psutil.Process]:
        """All that runs on it."""
        found = []
        for process in self.first:
            try:
                found += [process, *process.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
        return [process for process in found if runs(process)]

    @property
    def alive(self) -> bool:
        """Whether it can work."""
        return any("/raylet" in title(process) and runs(process) for process in self.first)


class FaultCluster:
    """A head and any number of nodes, each with an address of its own.

    Its files, and Ray's note of the machine's cluster, lie in a folder of its own: no other Ray is to find them.

    Args:
        cpus: What the head offers.
    """

    def __init__(self, cpus: int = 0) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # a short path: sockets lie there
        self._before = {name: os.environ.get(name) for name in (*SETTINGS, "RAY_ADDRESS")}
        os.environ.pop("RAY_ADDRESS", None)
        os.environ |= SETTINGS
        self._family: set[psutil.Process] = set()
        self._starts: list[psutil.Popen] = []
        self.nodes: list[Node] = []
        self._host = ray.util.get_node_ip_address()
        self._address = f"{self._host}:{free_port()}"
        head = ["--head", f"--port={self._address.split(':')[1]}", f"--ray-client-server-port={free_port()}"]
        head += ["--include-dashboard=false"]
        self._records: GcsClient | None = None
        try:
            start = self._start(cpus, self._host, *head)
            assert self._comes_up(start, self._host), self._printed()
            self.head = self._node(start, self._host)
        except BaseException:
            self.close()
            raise
        os.environ["RAY_ADDRESS"] = self._address

    def __enter__(self) -> "FaultCluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> list[Node]:
        """Nodes beside the head that can work."""
        return [node for node in self.nodes if node.alive]

    def add(self, cpus: int, count: int = 1) -> None:
        """Add nodes and wait for them."""
        ips = [f"127.0.0.{len(self.nodes) + number + 2}" for number in range(count)]
        started = [self._start(cpus, ip, f"--address={self._address}") for ip in ips]
        for start, ip in zip(started, ips, strict=True):
            if not self._comes_up(start, ip):  # one of its ports was taken, or the machine was too slow for it
                self._kill(self._descent(start))
                start = self._start(cpus, ip, f"--address={self._address}")
                assert self._comes_up(start, ip), self._printed()
            self.nodes.append(self._node(start, ip))

    def named(self, words: str, node: Node | None = None) -> list[psutil.Process]:
        """Ray's processes, on all nodes or on one, whose title holds these words."""
        nodes = [self.head, *self.nodes] if node is None else [node]
        return [process for each in nodes for process in each.processes if words in title(process)]

    def node_of(self, process: psutil.Process) -> Node:
        """The node that a process runs on."""
        return next(node for node in [self.head, *self.nodes] if process in node.processes)

    def kill_node(self, node: Node, only: str = "") -> None:
        """All processes of a node at once, or only those of one part: ``raylet`` with its workers, ``gcs_server``."""
        if runs(node.start):
            node.start.kill()  # it would end the others as soon as one has died
        chosen = [each for each in node.first if not only or f"/{only}" in title(each).split(" ")[0]]
        self._kill(replace(node, first=tuple(chosen)).processes)

    def drain_node(self, node: Node, seconds: int) -> None:
        """Announce a node's end, as a cloud does that takes it back; Ray ends it when the time has come."""
        known = self._infos().items()
        number = next(each.hex() for each, info in known if info.node_manager_address == node.ip and info.state == 0)
        command = [RAY, "drain-node", "--address", self._address, "--node-id", number]
        command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "taken back"]
        command += ["--deadline-remaining-seconds", str(seconds)]
        subprocess.run(command, check=True, capture_output=True)

    def close(self) -> None:
        """End everything that runs, whatever has died before."""
        try:
            ours = [each for each in psutil.process_iter() if f"{self._folder}/" in title(each)]
            self._family |= {process for each in ours for process in self._descent(each)}
        finally:
            self._kill([*self._starts, *self._family])
            for start in self._starts:
                start.wait(10)
            for name, value in self._before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, cpus: int, ip: str, *options: str) -> psutil.Popen:
        place = self._folder / f"{len(list(self._folder.iterdir()))}"
        place.mkdir()
        command = [RAY, "start", *options, "--block", "--disable-usage-stats", f"--node-ip-address={ip}"]
        command += [f"--num-cpus={cpus}", "--num-gpus=0"]
        command += ["--min-worker-port=0", "--max-worker-port=0", f"--object-store-memory={_STORE}"]
        command += [f"--temp-dir={place}", f"--dashboard-agent-listen-port={free_port()}"]
        with (place / "printed").open("w") as printed:
            made = psutil.Popen(command, cwd="/tmp", stdout=printed, stderr=subprocess.STDOUT, start_new_session=True)
        self._starts.append(made)
        return made

    def _comes_up(self, start: psutil.Popen, ip: str) -> bool:
        """Wait until the cluster knows a node; whether it did before the node's own processes ended."""
        deadline = time.monotonic() + 60
        while runs(start) and time.monotonic() < deadline:
            if any("/raylet" in title(each) for each in self._descent(start)) and self._known(ip):
                return True
            time.sleep(0.1)
        return False

    def _descent(self, start: psutil.Process) -> list[psutil.Process]:
        try:
            return [start, *start.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _node(self, start: psutil.Popen, ip: str) -> Node:
        node = Node(start, tuple(start.children()), ip)
        self._family |= set(node.first)
        return node

    def _printed(self) -> list[str]:
        return [file.read_text() for file in self._folder.glob("*/printed")]

    def _known(self, ip: str) -> bool:
        return any(info.node_manager_address == ip and info.state == 0 for info in self._infos().values())

    def _infos(self) -> dict[Any, Any]:
        self._records = self._records or GcsClient(address=self._address)
        return dict(self._records.get_all_node_info(timeout=10))

    def _kill(self, processes: list[psutil.Process]) -> None:
        self._family |= set(processes)
        for process in processes:
            if runs(process):
                process.kill()
        wait_for(lambda: not any(map(runs, processes)), 20)
