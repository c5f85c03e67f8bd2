"""What MLflow learns of a study's surroundings: its data, its files, its machine, its commit."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from made_outcomes import recipe_of, small_study

from mtl_search.data.study_data import StudyData, load_data
from mtl_search.passwords import without_passwords
from mtl_search.recipe import Component
from mtl_search.tracking.datasets import dataset_inputs
from mtl_search.tracking.environment import environment, git_tags
from mtl_search.tracking.journal import PARENT
from mtl_search.tracking.naming import recipe_name
from mtl_search.tracking.system_metrics import system_metrics
from mtl_search.tracking.tracker import Tracker

PATIENCE = 60.0
Track = Callable[..., Tracker]


@pytest.fixture(scope="module")
def data() -> StudyData:
    config = small_study().config
    return load_data(config.data, config.tasks, config.seed)


def test_data_set_is_an_input_per_split_with_digest_schema_and_sizes(track: Track, seen, data: StudyData) -> None:
    said = dataset_inputs(small_study().config, data)
    for _ in range(2):  # a resumed study says it again
        with track() as tracker:
            tracker.start_study({}, {})
            tracker.log_inputs(None, said)
            tracker.end_study("FINISHED")
    inputs = seen.runs[PARENT].inputs.dataset_inputs
    found = {each.tags[0].value: each.dataset for each in inputs}
    assert (len(inputs), found.keys()) == (3, {"training", "validation", "test"})
    assert {dataset.name for dataset in found.values()} == {"tiny"}
    assert len({dataset.digest for dataset in found.values()}) == 3
    columns = json.loads(found["training"].schema)["mlflow_colspec"]
    assert [column["name"] for column in columns][:2] == ["sepal length (cm)", "sepal width (cm)"]
    assert columns[2]["name"] == "target (target of kind, classification)"
    profile = json.loads(found["training"].profile)
    assert profile["num_rows"] == data.splits["train"]["main"].rows
    assert profile["tasks"]["kind"]["labels"] == profile["num_rows"]
    assert json.loads(found["test"].source)["sklearn"]["name"] == "iris"


def test_digest_is_the_data_s_not_the_run_s(data: StudyData) -> None:
    config = small_study().config
    again = load_data(config.data, config.tasks, config.seed)
    other = load_data(config.data, config.tasks, config.seed + 1)
    digests = [[each["digest"] for each in dataset_inputs(config, found)] for found in (data, again, other)]
    assert digests[0] == digests[1]
    assert not set(digests[0]) & set(digests[2])


def test_passwords_stay_out_of_sight() -> None:
    text = "storage: postgresql+psycopg://anna:s3cr%2Ft@db:5432/studies\nuri: https://host/a:b@c\n"
    assert without_passwords(text) == text.replace("s3cr%2Ft", "***")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://anna:s3cr@t@db:5432/studies",
        "postgresql://anna:s3cr/t@db/studies",
        "postgresql://anna@corp:s3cr/t@db/studies",
        "postgresql://anna:s3 cr'\"t@db/studies",
        "postgresql://db/studies?user=anna&password=s3cr@t",
        "postgresql://db:5432/studies?sslpassword=s3cr@t&sslmode=require",
        "https://s3crt@host/table.csv",
        "https://s3crt@host:5000/a@b",
        "https://host/table.csv?token=s3crt",
        "https://host/table.csv?X-Amz-Signature=s3crt",
        "host=db password=s3crt",
    ],
)
def test_no_part_of_a_password_is_seen(address: str) -> None:
    hidden = without_passwords(address)
    assert "***" in hidden
    assert not [part for part in ("s3", "cr", "t@") if part in hidden]
    assert without_passwords({"a": [{"url": address}]}) == {"a": [{"url": hidden}]}


def test_what_is_named_after_a_secret_is_hidden_and_nothing_else() -> None:
    plain = {"api_key": "s3crt", "user": "anna", "key": "row", "tokens": 4, "token": {"kind": "binary"}, "n": None}
    assert without_passwords(plain) == {**plain, "api_key": "***"}
    for address in ("sqlite:////data/a:b@c.db", "http://localhost:5000", "s3://bucket/a@b.csv?version=3"):
        assert without_passwords(address) == address


@pytest.mark.parametrize("program", ["#!/bin/sh\nsleep 9\n", "no program\n"])
def test_slow_or_broken_program_is_left_out(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("git", "nvidia-smi"):
        (tmp_path / name).write_text(program)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("mtl_search.tracking.environment._PATIENCE", 0.1)
    assert git_tags([tmp_path]) == {}
    assert "# gpus none" in environment()


def test_file_arrives_as_it_is_when_it_is_delivered(track: Track, seen, tmp_path: Path) -> None:
    picture = tmp_path / "figures" / "history.png"
    picture.parent.mkdir()
    for content in (b"\x89PNG one", b"\x89PNG two"):
        picture.write_bytes(content)
        with track() as tracker:
            tracker.start_study({}, {})
            tracker.log_file(None, picture, "figures")
            tracker.end_study("FINISHED")
        assert Path(seen.runs[PARENT].info.artifact_uri, "figures/history.png").read_bytes() == content


def test_missing_file_is_set_aside_and_the_rest_arrives(track: Track, seen, rejected, tmp_path: Path) -> None:
    there = tmp_path / "there.txt"
    there.write_text("here")
    with track() as tracker:
        tracker.start_study({}, {})
        tracker.log_file(None, tmp_path / "gone.png")
        tracker.log_file(None, there)
        tracker.end_study("FINISHED")
        assert (tracker.flush(PATIENCE), tracker.rejected) == (0, 1)
    assert "gone.png" in rejected()[0]["reason"]
    assert Path(seen.runs[PARENT].info.artifact_uri, "there.txt").read_text() == "here"


def test_study_that_was_moved_tells_another_server_all_of_it(
    track: Track, seen, rejected, data: StudyData, tmp_path: Path
) -> None:
    """The first server never heard of it: everything waits, also the files, wherever the folder went since."""
    home = tmp_path / "home"
    (home / "figures").mkdir(parents=True)
    (home / "figures" / "history.html").write_text("<svg/>")
    silent = Tracker(home / "journal", "http://127.0.0.1:9", "e", "tiny")
    silent.start_study({}, {})
    silent.log_inputs(None, dataset_inputs(small_study().config, data))
    silent.log_file(None, home / "figures" / "history.html", "figures")
    silent.end_study("FINISHED")
    silent.close(0)
    home.rename(tmp_path / "moved")
    with track(folder="moved/journal") as tracker:
        assert (tracker.flush(PATIENCE), tracker.rejected) == (0, 0)
    parent = seen.runs[PARENT]
    assert len(parent.inputs.dataset_inputs) == 3
    assert Path(parent.info.artifact_uri, "figures/history.html").read_text() == "<svg/>"


def test_machine_is_watched_while_the_block_runs_and_by_the_study_s_clock(track: Track, seen) -> None:
    for _ in range(2):
        with track() as tracker:
            tracker.start_study({}, {})
            with system_metrics(tracker, interval=0.4):
                time.sleep(1.0)
            tracker.end_study("FINISHED")
    metrics = seen.runs[PARENT].data.metrics
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= metrics.keys()
    points = seen.curve(PARENT, "system/system_memory_usage_megabytes")
    assert len(points) >= 6
    assert [step for step, _, _ in points] == sorted(step for step, _, _ in points)
    assert points[-1][0] >= 2, "a resumed study goes on where its clock is"


def test_environment_names_python_machine_and_packages() -> None:
    lines = environment().splitlines()
    assert lines[0].startswith("# python 3.")
    assert any(line.startswith("torch==") for line in lines)


def test_commit_of_the_first_folder_in_a_repository_is_named(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    outside = Path("/")
    assert git_tags([outside]) == {}
    git("init", "-b", "main")
    assert git_tags([outside, tmp_path]) == {}, "no commit yet"
    (tmp_path / "net.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "-m", "x")
    clean = {"mlflow.source.git.branch": "main", "mlflow.source.git.dirty": False}
    assert git_tags([outside, tmp_path]) == {"mlflow.source.git.commit": git("rev-parse", "HEAD"), **clean}
    (tmp_path / "net.py").write_text("a = 2\n")
    assert git_tags([tmp_path])["mlflow.source.git.dirty"] is True


def test_recipe_is_named_by_what_varies() -> None:
    assert recipe_name(recipe_of(), ["sharing", "sharing.depth", "weighting", "joint.optimizer.lr"]) == (
        "hard-3 uncertainty lr=3e-4"
    )
    assert recipe_name(recipe_of(lr=0.0123), ["fusion", "joint.optimizer.lr"]) == "mean lr=0.012"
    assert recipe_name(recipe_of(), ()) == "hard uncertainty mean"
    own = recipe_of()
    object.__setattr__(own, "sharing", Component("my_package.my_module:Mine"))
    assert recipe_name(own, ["sharing", "base"]) == "Mine base=random"
