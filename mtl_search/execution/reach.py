"""Reach: whether every node of the cluster sees the storage, found out before anything trains.

The driver writes a token; a task on each node reads it and writes its own. A node that joins later does the same when
its first worker starts.
"""

import uuid
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mtl_search.errors import StorageError, StudyError
from mtl_search.remote import RemotePath
from mtl_search.storage import Place, place, probe

TOKEN_FILE = "token"
_PATIENCE = 120.0
"""Seconds a node gets to start a process and answer."""


def check_nodes(home: Place, *, shared: bool = False) -> None:
    """See that every node reads and writes a study's folder; nothing to do where there is one node.

    Args:
        home: The study's folder in the storage.
        shared: Whether other drivers may be at this too: what one of them wrote is what all look for.

    Raises:
        StudyError: A node does not; the message says which, and what to do.
        StorageError: The store refuses.
    """
    home.mkdir(parents=True, exist_ok=True)
    if not (shared and (home / TOKEN_FILE).exists()):
        (home / TOKEN_FILE).write_bytes(uuid.uuid4().hex.encode())
    token = (home / TOKEN_FILE).read_bytes()
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if len(nodes) < 2:
        return
    look: Any = ray.remote(num_cpus=0, max_retries=0)(_seen_from_here)
    asked = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            str(home), token
        )
        for node in nodes
    ]
    names = [f"{node['NodeManagerHostname']} {node['NodeManagerAddress']}" for node in nodes]
    # Two nodes on one machine have one name; whichever of them does not see it is told of.
    blind = {name: problem for name, each in zip(names, asked, strict=True) if (problem := _answer(each))}
    if blind:
        raise StudyError(_advice(home, blind))


def check_here(home: str) -> None:
    """See that this node reads and writes a study's folder.

    Args:
        home: The study's folder in the storage; empty for none.

    Raises:
        StudyError: It does not; the message says what to do.
    """
    problem = _seen_from_here(home, None) if home else ""
    if problem:
        name = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        raise StudyError(_advice(place(home), {name: problem}))


def _seen_from_here(home: str, token: bytes | None) -> str:
    """Task: why this node cannot use the folder; empty where it can."""
    folder = place(home)
    try:
        found = (folder / TOKEN_FILE).read_bytes()
        if token is not None and found != token:
            return "it sees another folder of that name"
        probe(folder)
    except FileNotFoundError:
        return "it does not see the folder's files"
    except (OSError, StorageError) as error:
        return str(error)
    return ""


def _answer(reference: Any) -> str:
    try:
        return str(ray.get(reference, timeout=_PATIENCE))
    except RayError as error:
        return f"it gave no answer ({type(error).__name__}: {str(error).partition(chr(10))[0]})"


def _advice(home: Place, blind: dict[str, str]) -> str:
    nodes = "; ".join(f"node {name}: {problem}" for name, problem in blind.items())
    if isinstance(home, RemotePath):
        return f"storage {home} cannot be used from every node of the cluster ({nodes}): its credentials must be there"
    return (
        f"storage {home} is not shared by all nodes of the cluster ({nodes}): name a folder that is mounted on every "
        "node, or a URL such as s3://bucket/folder, as `storage:` or with --output"
    )
