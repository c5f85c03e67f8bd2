"""Reach: whether every node of the cluster sees the storage, found out before anything trains.

The driver writes a token; a task on each node reads it and writes its own. A node that joins later does the same when
its first worker starts.
"""

import time
import uuid
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mtl_search.errors import StorageError, StudyError
from mtl_search.storage.paths import StoragePath, probe, storage_path
from mtl_search.storage.remote import RemotePath

TOKEN_FILE = "token"
_PATIENCE = 120.0
"""Seconds a node gets to start a process and answer."""
_DYING = 30.0
"""Seconds until Ray knows of a node's death, and some more."""


@dataclass(frozen=True)
class StudyLocation:
    """A study's folder in the storage, and what tells it from one of the same name elsewhere.

    Attributes:
        folder: Path or URL.
        token: What the driver wrote there.
    """

    folder: str
    token: bytes


def check_storage_on_nodes(location: StoragePath, *, shared: bool = False) -> StudyLocation:
    """See that every node reads and writes a study's folder; where there is one node nobody need be asked.

    Args:
        location: The study's folder in the storage.
        shared: Whether other drivers may be at this too: what one of them wrote is what all look for.

    Returns:
        The folder, for workers on nodes that join later.

    Raises:
        StudyError: A node does not; the message says which, and what to do.
        StorageError: The store refuses.
    """
    location.mkdir(parents=True, exist_ok=True)
    if not (shared and (location / TOKEN_FILE).exists()):
        (location / TOKEN_FILE).write_bytes(uuid.uuid4().hex.encode())
    seen = StudyLocation(str(location), (location / TOKEN_FILE).read_bytes())
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if len(nodes) < 2:
        return seen
    look: Any = ray.remote(num_cpus=0, max_retries=0)(_sees_storage)
    asked = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(seen)
        for node in nodes
    ]
    names = [f"{node['NodeManagerHostname']} {node['NodeManagerAddress']}" for node in nodes]
    # Two nodes on one machine have one name; whichever of them does not see it is told of.
    answers = [_node_answer(each, node["NodeID"]) for each, node in zip(asked, nodes, strict=True)]
    blind = {name: problem for name, problem in zip(names, answers, strict=True) if problem}
    if blind:
        raise StudyError(_advice(location, blind))
    return seen


def check_storage_here(location: StudyLocation | None) -> None:
    """See that this node reads and writes the folder that the driver does; None for no folder.

    Raises:
        StudyError: It does not; the message says what to do.
    """
    problem = "" if location is None else _sees_storage(location)
    if location is not None and problem:
        name = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        raise StudyError(_advice(storage_path(location.folder), {name: problem}))


def _sees_storage(location: StudyLocation) -> str:
    """Task: why this node cannot use the folder; empty where it can."""
    folder = storage_path(location.folder)
    try:
        if (folder / TOKEN_FILE).read_bytes() != location.token:
            return "it sees another folder of that name"
        probe(folder)
    except FileNotFoundError:
        return "it does not see the folder's files"
    except (OSError, StorageError) as error:
        return str(error)
    return ""


def _node_answer(reference: Any, node: str) -> str:
    """Why a node cannot use the folder; empty where it can, or has died meanwhile."""
    try:
        return str(ray.get(reference, timeout=_PATIENCE))
    except RayError as error:
        if _is_dead(node):
            return ""
        return f"it gave no answer ({type(error).__name__}: {str(error).partition(chr(10))[0]})"


def _is_dead(node: str) -> bool:
    """Whether Ray takes a node for dead, now or soon: it counts as alive until it was silent for a while."""
    until = time.monotonic() + _DYING
    while any(each["NodeID"] == node and each["Alive"] for each in ray.nodes()):  # type: ignore[no-untyped-call]
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


def _advice(location: StoragePath, blind: dict[str, str]) -> str:
    nodes = "; ".join(f"node {name}: {problem}" for name, problem in blind.items())
    if isinstance(location, RemotePath):
        return (
            f"storage {location} cannot be used from every node of the cluster ({nodes}): its credentials must be there"
        )
    return (
        f"storage {location} is not shared by all nodes of the cluster ({nodes}): "
        "name a folder that is mounted on every "
        "node, or a URL such as s3://bucket/folder, as `storage:` or with --output"
    )
