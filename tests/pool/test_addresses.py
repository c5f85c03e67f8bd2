"""Where a study is to run: what is written as an address, and what the environment says as Ray reads it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtl_search.cluster import probe
from mtl_search.cluster.study_job import printable
from mtl_search.errors import ConfigError
from mtl_search.pool.addresses import address_of, asks_for_a_job, in_a_job, job_notes, without_environment

PACKAGE = Path(probe.__file__).parents[1]


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("address", ["http://head:8265", "https://cluster.example/ray", "ray://10.0.0.1:10001"])
def test_a_dashboard_or_a_ray_client_asks_for_a_job(address: str) -> None:
    assert address_of(address) == address
    assert asks_for_a_job(address)


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "head.cluster:6379", "[fe80::1]:6379", None])
def test_any_other_address_is_joined(address: str | None) -> None:
    assert address_of(address) == address
    assert not asks_for_a_job(address)


@pytest.mark.parametrize("address", ["", "head", "ftp://head:21", "http://", "a b:1", "http://head:8265/ x"])
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(ConfigError, match="--address: must be auto or HOST:PORT"):
        address_of(address)


def test_the_environment_counts_as_ray_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://10.0.0.1:8265")
    assert address_of(None) == "10.0.0.1:6379"
    assert address_of(None, server=True) == "http://10.0.0.1:8265"
    assert address_of("auto", server=True) == "auto", "what is typed goes before"
    with without_environment():
        assert "RAY_ADDRESS" not in os.environ
    assert os.environ["RAY_ADDRESS"] == "10.0.0.1:6379"


def test_a_job_s_command_knows_that_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_a_job()
    assert job_notes() == {}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"metadata": {"mtl_search.again": "so"}}))
    assert in_a_job()
    assert job_notes() == {"mtl_search.again": "so"}


def test_the_probe_runs_by_itself_and_tells_what_there_is(tmp_path: Path) -> None:
    wanted = ["ray>=2.60", "numpy<1", "no_such_library_at_all"]
    command = [sys.executable, "-c", Path(probe.__file__).read_text(), json.dumps(wanted)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.removeprefix(probe.MARK))
    assert told["package"] == probe.fingerprint(PACKAGE)
    assert told["unmet"] == ["numpy", "no_such_library_at_all"]
    assert told["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"


def test_text_from_a_cluster_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\r\x07c\td\n\x9b1m") == "a[2Jbc\td\n1m"


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "ray://127.0.0.1:9", "127.0.0.1:9"])
def test_an_address_that_cannot_be_joined_is_told_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    code = "import sys; from mtl_search.pool.ray_cluster import start_ray\n"
    code += "from mtl_search.config.study_config import ResourcesConfig\n"
    code += "from mtl_search.errors import StudyError\n"
    code += "try: start_ray(ResourcesConfig(), 1)\nexcept StudyError as error: sys.exit(str(error))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    began = time.monotonic()
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert time.monotonic() - began < 60
    wanted = "asks for a job" if "://" in address else "no Ray cluster to join at 127.0.0.1:9 (ConnectionRefusedError"
    assert wanted in told.stderr
