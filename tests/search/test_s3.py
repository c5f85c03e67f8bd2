"""A study whose storage is a bucket: killed, resumed from an empty machine, reported and exported."""

import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from driver_processes import Command
from s3_server import S3
from small_studies import study_of, write_study
from trapped_backbone import SLOW

from mtl_search.results.trial_record import TrialRecord
from mtl_search.study_store.folder import StudyFolder

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": b"planted-secret-key",
    "AWS_ACCESS_KEY_ID": b"planted-key-id",
    "MLFLOW_TRACKING_PASSWORD": b"planted-tracking-password",
    "PGPASSWORD": b"planted-database-password",
}
URL = "s3://bucket/some/runs"
JOINT = {"epochs": 8, "batch_size": SLOW, "optimizer": {"adamw": {"lr": {"float": [1e-4, 1e-2], "log": True}}}}


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Ray makes sockets below it, whose names must be short."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="m") as folder:
        yield Path(folder)


def trials_of() -> list[TrialRecord]:
    return StudyFolder.at("tiny", URL).records("journal")


def command(place: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mtl_search.cli", *words], cwd=place, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_in_a_bucket_is_killed_and_goes_on_on_an_empty_machine(
    tmp_path: Path, short_folder: Path, s3: S3, monkeypatch: pytest.MonkeyPatch, started: Callable[..., Command]
) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret.decode())
    write_study(tmp_path, study_of(tmp_path, 4, JOINT) | {"storage": URL})
    first = started(tmp_path)
    first.wait_until(lambda: sum("/trials/" in key and key.endswith("result.json") for key in s3.names()) >= 2)
    first.wait_until(lambda: any(trial.state == "complete" for trial in trials_of()))
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    before = [trial for trial in trials_of() if trial.state == "complete"]
    assert before

    other = short_folder  # another machine, as far as files go: empty working and scratch folders
    monkeypatch.setenv("TMPDIR", str(other))
    write_study(other, study_of(tmp_path, 4, JOINT) | {"storage": URL})
    again = started(other, "--resume")
    assert again.end() == 0, again.printed
    after = trials_of()
    assert [trial for trial in after if trial.number in {each.number for each in before}] == before
    states = Counter(trial.state for trial in after)
    assert states["complete"] == 4
    assert set(states) <= {"complete", "interrupted"}
    assert list(other.glob("mtl_search-*/study-*")) == []  # working folders go with their process

    assert "improvement" in command(other, "report", "tiny", "--output", URL)
    command(other, "export", "tiny", "--output", URL)
    assert (other / "tiny-model" / "model.pt2").exists()
    assert not (other / "mtl_search_runs").exists()
    check_no_secret([tmp_path, other], s3)


def check_no_secret(places: list[Path], s3: S3) -> None:
    """Nothing that was written holds a secret of the environment: not the bucket, MLflow, the export, Ray's files."""
    files = [path for place in places for path in place.rglob("*") if path.is_file() and path.name != "s3.log"]
    contents = {str(path): path.read_bytes() for path in files} | {key: s3.read(key) for key in s3.names()}
    assert any(name.endswith("mlflow.db") for name in contents)
    assert any("/ray/session" in name for name in contents)
    assert any(name.endswith("model.safetensors") for name in contents)
    leaks = [(name, secret) for name, content in contents.items() for secret in SECRETS.values() if secret in content]
    assert leaks == []
