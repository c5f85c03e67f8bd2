"""A study as a Ray job on a cluster of three nodes: followed, left, looked at, stopped, gone on with as another job."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trapped_backbone
import yaml
from mlflow import MlflowClient
from own_cluster import OwnCluster, three_nodes
from tiny_studies import SOURCE, TASKS
from trapped_backbone import SLOW

import mtl_search
from mtl_search.study_store.folder import StudyFolder

PACKAGE = Path(mtl_search.__file__).parent

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
NAME = "flowers"


@pytest.fixture(scope="module")
def cluster() -> Iterator[OwnCluster]:
    with three_nodes() as started:
        yield started


@pytest.fixture
def place(tmp_path: Path, empty_database: Path) -> Path:
    """A folder with a study file and its backbone's module; storage and MLflow lie elsewhere."""
    (tmp_path / "work").mkdir()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "mlflow.db").write_bytes(empty_database.read_bytes())
    (tmp_path / "work" / "trapped_backbone.py").write_text(Path(trapped_backbone.__file__).read_text())
    raw: dict[str, Any] = {
        "name": NAME,
        "data": {"source": SOURCE},
        "tasks": TASKS,
        "backbone": {"python": {"function": "trapped_backbone:blocks", "params": {"folder": str(tmp_path)}}},
        "space": {
            "sharing": {"hard": {"depth": 1}},
            "single_task": {"epochs": 2, "batch_size": 32, "optimizer": {"adamw": {"lr": 0.01}}},
            "joint": {
                "epochs": 12,
                "batch_size": SLOW,
                "optimizer": {"adamw": {"lr": {"float": [1e-4, 1e-2], "log": True}}},
            },
        },
        "search": {
            "trials": 200,  # more than it comes to before it is stopped
            "sampler": "random",
            "stopper": "none",
            "baseline_seeds": 1,
            "repeats": {"trials": 1, "runs": 1},
        },
        "resources": {"concurrent_trials": 2},
        "storage": str(tmp_path / "shared" / "runs"),
        "tracking": {"uri": f"sqlite:///{tmp_path}/shared/mlflow.db"},
    }
    (tmp_path / "work" / "flowers.yaml").write_text(yaml.safe_dump(raw))
    return tmp_path


def command(cluster: OwnCluster, place: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mtl_search.cli", *words],
        cwd=place / "work",
        env=dict(cluster.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def done(cluster: OwnCluster, place: Path, *words: str, code: int = 0) -> str:
    process = command(cluster, place, *words)
    printed = process.communicate(timeout=400)[0]
    sys.stdout.write(f"$ mtl-search {' '.join(words)}\n{printed}")  # shown where the test fails
    assert process.returncode == code
    return printed


def test_a_study_as_a_job_is_followed_left_looked_at_stopped_and_gone_on_with(cluster: OwnCluster, place: Path) -> None:
    at = ("--address", cluster.address)
    folder = StudyFolder(place / "shared" / "runs", NAME)

    first = command(cluster, place, "search", "flowers.yaml", *at)
    assert first.stdout is not None
    heard = []
    for line in first.stdout:
        heard.append(line)
        if re.match(r"trial +0 complete", line):
            break
    first.send_signal(signal.SIGINT)  # the shell goes, the job stays
    rest = first.communicate(timeout=60)[0]
    sys.stdout.write("".join(heard) + rest)
    assert first.returncode == 130
    assert "goes on. To come back: mtl-search logs flowers" in rest
    printed = "".join(heard)
    assert "the cluster has this very mtl_search" in printed
    assert "packed " in printed
    assert ": 2 files" in printed
    assert "INFO dashboard_sdk" not in printed

    status = done(cluster, place, "status", NAME, *at)
    assert re.search(r"job flowers-[0-9a-f]{8}: running, begun ", status)
    assert re.search(r"trials: [1-9] complete", status)
    assert "is being run by process " in status
    assert "best so far: trial " in status
    second = done(cluster, place, "search", "flowers.yaml", "--resume", *at, code=2)
    assert "study flowers is being run by process " in second

    began = time.monotonic()
    stopped = done(cluster, place, "stop", NAME, *at)
    assert time.monotonic() - began < 120
    assert f"to go on: mtl-search search flowers.yaml --resume --address {cluster.address}" in stopped
    log = done(cluster, place, "logs", NAME, *at)
    assert "nothing finished is lost. To go on: mtl-search search flowers.yaml --resume --address" in log
    before = folder.records(folder.read_config().search.storage)
    assert {record.state for record in before} <= {"complete", "interrupted"}
    runs = MlflowClient(f"sqlite:///{place}/shared/mlflow.db")
    experiment = runs.get_experiment_by_name(NAME)
    assert experiment is not None
    assert "RUNNING" not in {run.info.status for run in runs.search_runs([experiment.experiment_id])}
    assert "nothing to stop" in done(cluster, place, "stop", NAME, *at)

    finished = [record.number for record in before if record.state == "complete"]
    assert finished
    wanted = len(finished) + 1
    gone_on = command(cluster, place, "search", "flowers.yaml", "--resume", f"--trials={wanted}", "--json", *at)
    printed = gone_on.communicate(timeout=400)[0]
    sys.stdout.write(printed)
    assert gone_on.returncode == 0
    assert "improvement over the best single-task models" in printed
    document = json.loads(printed[printed.rindex("\n{\n") :])
    after = {trial["number"]: trial["state"] for trial in document["trials"]}
    assert list(after.values()).count("complete") == wanted
    assert {after[number] for number in finished} == {"complete"}
    assert "has ended" in done(cluster, place, "status", "flowers.yaml", *at)
    assert not (place / "work" / "mtl_search_runs").exists()


def test_ray_client_s_address_submits_a_job_too_and_places_that_would_not_outlive_it_are_refused(
    cluster: OwnCluster, place: Path
) -> None:
    file = place / "work" / "flowers.yaml"
    raw = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**raw, "storage": "runs", "tracking": {"uri": "sqlite:///mlflow.db"}}))
    told = done(cluster, place, "search", "flowers.yaml", "--address", cluster.client, code=2)
    assert "storage: must be a URL, or the full path of a folder that all nodes share" in told
    assert "tracking.uri: must be a server, or hold a full path" in told
    file.write_text(yaml.safe_dump({**raw, "tracking": {}}))
    told = done(cluster, place, "search", "flowers.yaml", "--address", cluster.client, code=2)
    assert "tracking.uri: must name an MLflow server" in told

    missing = done(cluster, place, "status", "another", "--address", cluster.client, code=2)
    assert f"no job of study 'another' at {cluster.address}" in missing
    token = {**cluster.environment, "RAY_AUTH_MODE": "disabled"}
    asked = subprocess.run(
        [sys.executable, "-m", "mtl_search.cli", "status", NAME, "--address", cluster.address],
        env=token,
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 2
    assert "the cluster asks for a token: set RAY_AUTH_MODE=token" in asked.stderr
    assert "Traceback" not in asked.stderr


def test_a_driver_of_this_machine_joins_the_cluster(cluster: OwnCluster, place: Path) -> None:
    joined = done(
        cluster,
        place,
        "search",
        "flowers.yaml",
        "--trials",
        "1",
        "--output",
        str(place / "here"),
        "--address",
        cluster.joined,
    )
    assert "improvement over the best single-task models" in joined
    wrong = done(
        cluster, place, "search", "flowers.yaml", "--output", str(place / "not"), "--address", "127.0.0.1:9", code=2
    )
    assert "error: no Ray cluster to join at 127.0.0.1:9" in wrong
    assert "Traceback" not in wrong


def test_the_package_travels_to_a_cluster_that_has_another(
    place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(PACKAGE, other / "mtl_search", ignore=shutil.ignore_patterns("__pycache__"))
    (other / "mtl_search" / "launch.py").write_text("raise RuntimeError('the old code')\n")
    with three_nodes(PYTHONPATH=str(other)) as cluster:
        printed = done(cluster, place, "search", "flowers.yaml", "--trials", "2", "--address", cluster.address)
    assert "the cluster has another mtl_search" in printed
    assert "the package travels along; its libraries serve" in printed
    assert "improvement over the best single-task models" in printed
