"""Two nodes of which one does not see the storage: said before anything trains, with what to do."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from driver_processes import Command
from live_processes import RAY
from mlflow_server import free_port
from small_studies import study_of, write_study

RAY = [
    RAY,
    "start",
    "--block",
    "--disable-usage-stats",
    "--node-ip-address=127.0.0.1",
]


@pytest.fixture
def two_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster of two; the second has a disk of its own where the storage lies."""
    storage, port = tmp_path / "mtl_search_runs", free_port()
    storage.mkdir()
    # `ray start` asks for a token of whoever connects: one of this cluster alone.
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    if subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
        pytest.skip("only root may hide a folder from a process")
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="m", ignore_cleanup_errors=True) as short:
        head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={short}", "--num-cpus=2"]
        hidden = 'mount -t tmpfs tmpfs "$0" && exec "$@"'
        second = ["unshare", "-m", "bash", "-c", hidden, str(storage), *RAY, f"--address=127.0.0.1:{port}"]
        nodes = []
        try:
            with (tmp_path / "nodes.log").open("wb") as log:
                for command in ([*RAY, *head], [*second, "--num-cpus=2"]):
                    nodes.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
                    _await_nodes(port, len(nodes))
            monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
            yield
        finally:
            for node in reversed(nodes):
                os.killpg(node.pid, signal.SIGTERM)
            for node in nodes:
                node.wait(60)


def _await_nodes(port: int, count: int) -> None:
    script = (
        "import ray, time\n"
        f"ray.init('127.0.0.1:{port}', log_to_driver=False, logging_level=40)\n"
        "until = time.monotonic() + 60\n"
        f"while sum(node['Alive'] for node in ray.nodes()) < {count}:\n"
        "    assert time.monotonic() < until\n"
        "    time.sleep(0.2)\n"
    )
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode == 0:
            return
    raise AssertionError(done.stderr)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_folder_that_a_node_does_not_see_is_said_before_training(
    tmp_path: Path, two_nodes: None, started: Callable[..., Command]
) -> None:
    write_study(tmp_path, study_of(tmp_path, 2, {"epochs": 1, "batch_size": 32}))
    command = started(tmp_path)
    assert command.end() == 2, command.printed
    assert f"storage {tmp_path}/mtl_search_runs/studies/tiny is not shared by all nodes" in command.printed
    assert "it does not see the folder's files" in command.printed
    assert "or a URL such as s3://bucket/folder" in command.printed
    assert "Traceback" not in command.printed
    assert not (tmp_path / "mtl_search_runs" / "cache").exists()
