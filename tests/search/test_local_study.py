"""A study in one process, from the command line and from Python: no Ray, and the answers of the same study on Ray."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_studies import folder_of, run_here, study_of, write_study

import mtl_search
from mtl_search.cli import main
from mtl_search.search.local_runtime import local_runtime
from mtl_search.search.ray_runtime import ray_runtime

pytestmark = pytest.mark.timeout(600)
JOINT: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 32,
    "optimizer": {"adamw": {"lr": {"float": [1e-3, 1e-1], "log": True}}},
}


def search(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in a process of its own, and says which part of Ray it has imported."""
    code = "import sys; from mtl_search.cli import main; main(sys.argv[1:]); print('ray' in sys.modules)"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{place / 'mlflow.db'}", "RAY_ADDRESS": "10.0.0.9:1"}
    return subprocess.run(
        [sys.executable, "-c", code, "search", "tiny.yaml", *words],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=place,
        env=environment,
        check=False,
    )


def test_the_command_runs_a_study_without_ray_and_goes_on_with_it(tmp_path: Path, empty_database: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    write_study(tmp_path, study_of(tmp_path, 2, JOINT, repeats={"runs": 0}))
    first = search(tmp_path, "--local")
    assert first.returncode == 0, first.stderr
    assert "2 of 2" in first.stdout
    assert first.stdout.splitlines()[-1] == "False"
    more = search(tmp_path, "--local", "--resume", "--trials", "3")
    assert more.returncode == 0, more.stderr
    assert "2 of 3 trials were done before" in more.stdout
    assert len(folder_of(tmp_path / "mtl_search_runs").records("journal")) == 3


def test_the_ray_address_and_local_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["search", "quickstart", "--local", "--address", "auto"])
    assert ended.value.code == 2
    assert "not allowed with argument --local" in capsys.readouterr().err


def test_more_workers_than_one_are_refused_before_the_study_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = study_of(tmp_path, 2, JOINT)
    raw["resources"] = {"workers": 2}
    (write_study(tmp_path, raw)).write_text(yaml.safe_dump(raw), encoding="utf-8")
    assert main(["search", "tiny.yaml", "--local"]) == 2
    assert "resources.workers: must be 1 with --local" in capsys.readouterr().err
    assert not folder_of(tmp_path / "mtl_search_runs").exists


def test_python_runs_it_in_this_very_process(tmp_path: Path, uri: str) -> None:
    raw = study_of(tmp_path, 2, {**JOINT, "batch_size": 10}, repeats={"runs": 0})  # leaves the process's number
    raw |= {"storage": str(tmp_path / "runs"), "tracking": {"uri": uri}}
    study = mtl_search.run_study(raw, local=True, verbose=False)
    assert len(study.trials) == 2
    assert (tmp_path / f"pid-{os.getpid()}").exists()


@pytest.mark.usefixtures("cluster")
def test_the_trials_and_the_winner_are_those_of_the_study_on_ray(tmp_path: Path) -> None:
    raw = study_of(tmp_path, 3, JOINT, repeats={"runs": 1})
    raw["resources"] = {"concurrent_trials": 1}
    found = []
    for name, runtime in (("here", local_runtime), ("ray", ray_runtime)):
        outcome = run_here(tmp_path / name, raw, runtime=runtime)
        records = folder_of(tmp_path / name).records("journal")
        trials = [(record.number, record.state, record.value, record.job) for record in records]
        found.append((trials, outcome.number, outcome.repeated, outcome.tasks))
    assert found[0] == found[1]
    raw["search"]["trials"] = 4
    run_here(tmp_path / "here", raw, runtime=ray_runtime)
    run_here(tmp_path / "ray", raw)
    resumed = [
        [(r.number, r.state, r.value) for r in folder_of(tmp_path / name).records("journal")]
        for name in ("here", "ray")
    ]
    assert len(resumed[0]) == 4
    assert resumed[0] == resumed[1], "either goes on with what the other began"
