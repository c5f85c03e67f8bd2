"""The champion in MLflow: logged to the study's run, registered with an alias, and served from there."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import pytest
from finished_studies import Finished
from mlflow import MlflowClient

from mtl_search.errors import MtlSearchError
from mtl_search.export.failure import ExportError
from mtl_search.export.pyfunc import frame_of
from mtl_search.export.registry import register_challenger, register_champion
from mtl_search.storage.files import read_json, write_json
from mtl_search.study_store.folder import StudyFolder
from mtl_search.tracking.tracker import Tracker

PATIENCE = 120.0


@pytest.fixture
def run_id(tmp_path: Path, uri: str) -> str:
    """The parent run that a study's tracker has made."""
    with Tracker(tmp_path / "journal", uri, "census", "census") as tracker:
        tracker.start_study({"seed": 0}, {})
        assert tracker.flush(PATIENCE) == 0
        found = tracker.run_id(None)
        assert found is not None
        tracker.end_study("FINISHED")
    return found


def test_registered_model_predicts_as_trained_and_a_later_one_takes_the_alias(
    table_study: Finished, uri: str, run_id: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    made = register_champion(table_study.folder, uri, run_id, "census")
    assert capfd.readouterr() == ("", "")
    assert (made.version, made.uri) == ("1", "models:/census@champion")
    client = MlflowClient(uri, uri)
    version = client.get_model_version_by_alias("census", "champion")
    assert (version.version, version.run_id, version.status) == (1, run_id, "READY")
    assert (version.tags["improvement"], version.tags["test_improvement"]) == ("+2.27", "-2.25")
    assert "+2.27 %" in version.description
    assert [output.model_id for output in client.get_run(run_id).outputs.model_outputs] == [made.model_id]
    assert client.get_logged_model(made.model_id).source_run_id == run_id
    assert client.get_logged_model(made.model_id).tags["test_gain.income"] == "-2.25"
    assert str(tmp_path) in client.get_logged_model(made.model_id).artifact_location
    mlflow.set_tracking_uri(uri)
    loaded = mlflow.pyfunc.load_model(made.uri)
    assert (loaded.metadata.run_id, loaded.model_id) == (run_id, made.model_id)
    answer = loaded.predict(frame_of(table_study.data.sample))
    np.testing.assert_allclose(answer["pay"], table_study.champion.predict(table_study.data.sample)["pay"], rtol=1e-5)
    same = register_champion(table_study.folder, uri, run_id, "census")
    assert (same.version, same.model_id) == (made.version, made.model_id), "a study that is resumed says it again"
    again = register_champion(table_study.folder, uri, None, "census")
    assert again.version == "2"
    assert client.get_model_version_by_alias("census", "champion").version == 2


def with_challenger(study: Finished, folder: StudyFolder, challenger: int | None) -> None:
    """A study that ran its two best trials again; number 1 kept its model too."""
    recipe = study.champion.recipe
    trial = optuna.trial.create_trial(
        value=1.5,
        user_attrs={
            "recipe": recipe.to_dict(),
            "job": "def",
            "metrics": {task.name: 0.885 for task in study.data.tasks},
            "best_epoch": 2,
            "parameters": 1000,
        },
    )
    if not folder.records("journal"):
        for _ in range(2):
            folder.optuna_study("journal").add_trial(trial)
    shutil.copytree(folder.trials / "abc", folder.trials / "def", dirs_exist_ok=True)
    noted = trial.user_attrs
    result = {"recipe": noted["recipe"], "multiply_adds": 0, "parameters": noted["parameters"], "steps": {}}
    write_json(folder.trials / "def" / "result.json", result | {"metrics": noted["metrics"], "best_epoch": 2})
    outcome = read_json(folder.outcome_file)
    for found in outcome["tasks"].values():
        found |= {"steps": {}, "worse": False}
    outcome["tasks"]["weight"]["worse"] = True
    estimate = {"mean": 1.25, "std": 0.5, "low": 0.25, "high": 2.25, "runs": 3}
    places = {3: "abc", 1: "def"}
    candidates = [
        {"number": number, "folder": str(folder.trials / place), "improvement": 2.0, "repeated": estimate}
        | {"parameters": 1000, "epoch_seconds": 0.5, "tied": True}
        for number, place in places.items()
    ]
    more = {"repeated": estimate, "candidates": candidates, "challenger": challenger}
    write_json(folder.outcome_file, outcome | more | {"folder": str(folder.trials / "abc")})


def test_challenger_is_a_version_of_its_own_and_leaves_with_its_reason(
    numbers_study: Finished, copied: Callable[[Finished], StudyFolder], uri: str, run_id: str
) -> None:
    folder, client = copied(numbers_study), MlflowClient(uri, uri)
    with_challenger(numbers_study, folder, 1)
    for _ in range(2):
        made = register_champion(folder, uri, run_id, "fitness")
        cheaper = register_challenger(folder, uri, run_id, "fitness")
        assert cheaper is not None
        assert (made.version, cheaper.version, cheaper.uri) == ("1", "2", "models:/fitness@challenger")
    best, other = (client.get_model_version_by_alias("fitness", alias) for alias in ("champion", "challenger"))
    figures = {"repeated": "+1.25 [+0.25, +2.25]", "optimism": "+1.02", "worse": "weight", "trial": "3"}
    assert figures.items() <= best.tags.items()
    assert "Worse than alone, with 95 % confidence: weight" in best.description
    assert (other.tags["trial"], other.tags["improvement"]) == ("1", "+0.57")
    assert not [name for name in other.tags if name.startswith("test")]
    assert "no test figures of this one" in other.description
    for name in ("test_improvement", "reviewed_by"):  # it was the champion once; and a tag of a user's own
        client.set_model_version_tag("fitness", "2", name, "anna")
    register_challenger(folder, uri, run_id, "fitness")
    kept = client.get_model_version("fitness", "2").tags
    assert {"test_improvement", "reviewed_by"} & kept.keys() == {"reviewed_by"}
    assert (kept["trial"], kept["improvement"]) == ("1", "+0.57")
    mlflow.set_tracking_uri(uri)
    answer = mlflow.pyfunc.load_model(cheaper.uri).predict(frame_of(numbers_study.data.sample))
    wanted = numbers_study.champion.predict(numbers_study.data.sample)["waist"]
    np.testing.assert_allclose(answer["waist"], wanted, rtol=1e-5)
    with_challenger(numbers_study, folder, None)
    assert register_challenger(folder, uri, run_id, "fitness") is None
    assert list(client.get_registered_model("fitness").aliases) == ["champion"]


def test_server_that_is_away_is_said_at_once(numbers_study: Finished) -> None:
    started = time.monotonic()
    with pytest.raises(ExportError, match=r"cannot register the model in MLflow at http://127\.0\.0\.1:9 "):
        register_champion(numbers_study.folder, "http://127.0.0.1:9", "0" * 32, "fitness")
    assert time.monotonic() - started < 30
    assert issubclass(ExportError, MtlSearchError)


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


@pytest.fixture
def serve(tmp_path: Path, uri: str) -> Iterator[Callable[[str], str]]:
    """Start `mlflow models serve` in a process group of its own, because it forks; give its address."""
    started: list[subprocess.Popen[bytes]] = []

    def start(model: str) -> str:
        port = free_port()
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        settings = os.environ | {
            "MLFLOW_TRACKING_URI": uri,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        with (tmp_path / "serve.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=settings, cwd=tmp_path, start_new_session=True
            )
        started.append(process)
        until = time.monotonic() + PATIENCE
        while not answers(f"http://127.0.0.1:{port}/ping"):
            assert process.poll() is None, (tmp_path / "serve.log").read_text()
            assert time.monotonic() < until, (tmp_path / "serve.log").read_text()
            time.sleep(0.2)
        return f"http://127.0.0.1:{port}/invocations"

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def post(address: str, body: object) -> tuple[int, Any]:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["table_study", "image_study"])
def test_served_champion_answers_raw_rows(
    name: str, request: pytest.FixtureRequest, uri: str, run_id: str, serve: Callable[[str], str]
) -> None:
    study: Finished = request.getfixturevalue(name)
    sample = study.data.sample
    address = serve(register_champion(study.folder, uri, run_id, study.folder.name).uri)
    rows = [{column: values[row] for column, values in sample.items()} for row in range(5)]
    status, answer = post(address, {"dataframe_records": rows})
    assert status == 200
    wanted = study.champion.predict(sample)
    for task in study.data.tasks:
        said = [row[task.name] for row in answer["predictions"]]
        if task.kind == "regression":
            np.testing.assert_allclose(said, wanted[task.name], rtol=1e-5)
        if task.kind == "classification":
            assert said == [task.labels[row.argmax()] for row in wanted[task.name]]
            got = [list(row[f"{task.name}_probabilities"].values()) for row in answer["predictions"]]
            np.testing.assert_allclose(got, wanted[task.name], atol=1e-6)
    first = next(iter(sample))
    status, answer = post(address, {"dataframe_records": [rows[0] | {first: "old"}]})
    assert status == 400
    assert f"column '{first}': must hold" in answer["message"]
