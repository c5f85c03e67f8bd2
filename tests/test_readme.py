"""The README's code blocks run: study files load and prepare, Python blocks work, commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from mtl_search.catalog import find_study, load_study
from mtl_search.cli import main
from mtl_search.commands import COMMANDS
from mtl_search.data import load_data
from mtl_search.data.known import Known
from mtl_search.extension.request import read_request
from mtl_search.launch import prepare
from mtl_search.reading import read_yaml
from mtl_search.recipe import Component
from mtl_search.weighting.base import Weighting

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def census(folder: Path) -> None:
    """The two files that the README's study names, small."""
    draw = np.random.default_rng(0)
    for name, rows in (("train.csv.gz", 300), ("test.csv.gz", 60)):
        frame = pd.DataFrame(
            {
                "age": draw.integers(18, 80, rows),
                "workclass": draw.choice(["Private", "State-gov", None], rows),
                "education": draw.choice(["Bachelors", "HS-grad"], rows),
                "occupation": draw.choice(["Sales", "Tech-support"], rows),
                "marital-status": draw.choice(["Never-married", "Divorced", "Married"], rows),
                "income": draw.choice(["<=50K", ">50K"], rows),
            }
        )
        frame.to_csv(folder / name, index=False)


def test_part_of_a_study_with_source_tasks_goes_into_the_shipped_one() -> None:
    _, part, _ = map(yaml.safe_load, blocks("yaml"))
    shipped = read_yaml(find_study("transfer"))
    prepared = prepare(load_study({**shipped, **part, "space": {**shipped["space"], **part["space"]}}))
    assert [task.name for task in prepared.data.source_tasks] == ["digit"]


def test_study_file_holds_every_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    census(tmp_path)
    study, _, later = blocks("yaml")
    (tmp_path / "census.yaml").write_text(study)
    prepared = prepare(load_study("census.yaml"))
    assert [task.labels for task in prepared.data.tasks] == [("<=50K", ">50K"), ("not Never-married", "Never-married")]
    assert prepared.workload.blocks == 3
    (tmp_path / "later.yaml").write_text(later)
    frame = pd.read_csv("test.csv.gz")
    frame.assign(union=["yes", "no"] * (len(frame) // 2)).to_csv("later.csv.gz", index=False)
    data = prepared.data
    model = prepared.workload.network([task.name for task in data.tasks], Component("hard", {"depth": 2}))
    request = read_request(tmp_path / "later.yaml", model)
    assert [(growth.task, growth.like, growth.depth) for growth in request.growths] == [("union", "income", 2)]
    known = Known(data.preparation, {task.name: task for task in data.tasks})
    tasks = load_data(request.config.data, request.config.tasks, request.config.seed, known=known).tasks
    assert [task.labels for task in tasks] == [("<=50K", ">50K"), ("no", "yes")]


def test_own_backbone_is_found_beside_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    code = next(block for block in blocks("python") if block.startswith("# my_net.py"))
    (tmp_path / "my_net.py").write_text(code)
    written = re.search(r"backbone: (\{python: .*\})", code)
    assert written is not None
    study = load_study(
        {
            "name": "own",
            "data": {"source": {"sklearn": {"name": "iris"}}},
            "tasks": {"species": {"kind": "classification", "target": "target"}},
            "backbone": yaml.safe_load(written[1]),
            "search": {"trials": 2},
        }
    )
    assert prepare(study).workload.blocks == 2


def test_own_weighting_weighs() -> None:
    names: dict[str, object] = {}
    (own,) = (block for block in blocks("python") if "class ByLoss(Weighting)" in block)
    exec(own, names)
    by_loss = names["ByLoss"]
    assert isinstance(by_loss, type)
    assert issubclass(by_loss, Weighting)
    weighting = by_loss(power=2.0)
    weighting.start(["a", "b"], torch.device("cpu"))
    assert torch.allclose(weighting(torch.tensor([1.0, 3.0])), torch.tensor([0.2, 1.8]))


@pytest.mark.timeout(600)
def test_python_example_runs_in_a_fresh_process(tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(next(block for block in blocks("python") if block.startswith("# %%")))
    command = [sys.executable, "example.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "Best(number=" in done.stdout
    assert "object:ByLoss-" in done.stdout
    assert (tmp_path / "half-digits" / "model.pt2").is_file()


def test_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    verbs = {line.split()[1] for line in lines if line.split()[0].endswith("mtl-search")}
    verbs |= set(re.findall(r"^\| `mtl-search (\w+)", README, re.MULTILINE))
    assert verbs == set(COMMANDS)
    for verb in verbs:
        with pytest.raises(SystemExit) as ended:
            main([verb, "--help"])
        assert ended.value.code == 0
    assert "--resume" in capsys.readouterr().out


def test_file_tree_names_what_is_there() -> None:
    root = Path(__file__).parents[1]
    named = re.findall(r"^    (\S+) {2,}\S", README.split("## Files")[1].split("## Benchmarks")[0], re.MULTILINE)
    assert len(named) > 20
    assert [name for name in named if not (root / name).exists()] == []
