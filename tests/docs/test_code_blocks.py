"""Every code block of the documentation works: study files load, Python runs, commands are understood."""

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from documentation import PAGES, README, ROOT, Block, blocks_of, commands_of, page_text

from mtl_search.cli import _parser
from mtl_search.commands import COMMANDS
from mtl_search.config.yaml_reading import read_yaml
from mtl_search.data.study_data import load_data
from mtl_search.data.trained_schema import TrainedSchema
from mtl_search.extension.request import read_request
from mtl_search.recipe import Component
from mtl_search.validation.prepare import prepare
from mtl_search.validation.study_file import find_study, load_study
from mtl_search.weighting.base import Weighting

LANGUAGES = {"yaml", "python", "console", "diff", "text"}
TOOLS = {"mtl-search", "make", "python", "python3", "pip", "mlflow", "sbatch", "export"}
"""Programs that a console block may call."""
OURS = ("benchmarks/", "deploy/", "docs/", "search_spaces/", "tests/")
"""Folders of the repository: what a command names in them is there."""


def census(folder: Path) -> None:
    """The two files that the census study names, small."""
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


def write_files(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write the Python files of a page where its other blocks find them; the modules' names."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    names = []
    for block in blocks_of("python", page=page):
        if block.title:
            file = folder / Path(block.title).name
            file.write_text(block.text)
            monkeypatch.delitem(sys.modules, file.stem, raising=False)
            names.append(file.stem)
    return names


def page_scripts() -> list[Any]:
    """The untitled Python blocks of each page as one script; those that run a study are slow."""
    scripts = []
    for path in PAGES:
        page = path.relative_to(ROOT).as_posix()
        script = "\n".join(block.text for block in blocks_of("python", page=page) if not block.title)
        if script:
            marks = [pytest.mark.slow, pytest.mark.timeout(1800)] if "run_study(" in script else []
            scripts.append(pytest.param(page, script, id=page, marks=marks))
    return scripts


def values_of(text: str, folder: Path) -> dict[str, Any]:
    """What a block of YAML holds, as the package reads it: ``1e-3`` is a number."""
    file = folder / "block.yaml"
    file.write_text(text)
    return dict(read_yaml(file))


def with_part(part: Mapping[str, Any]) -> dict[str, Any]:
    """A shipped study with some sections replaced; of the space the parts that are named."""
    shipped = dict(read_yaml(find_study("transfer" if "source_tasks" in part else "quickstart")))
    if "tasks" in part and "source_tasks" not in part:
        shipped.pop("source_tasks", None)
    return {**shipped, **part, "space": {**shipped["space"], **part.get("space", {})}}


def test_every_block_says_what_it_is() -> None:
    assert {str(block): block.language for block in blocks_of() if block.language not in LANGUAGES} == {}
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        fences = re.findall(r"^ *```", text, re.MULTILINE)
        assert len(fences) == 2 * len(blocks_of(page=path.relative_to(ROOT).as_posix())), f"a fence of {path.name}"


@pytest.mark.parametrize("block", blocks_of("yaml"), ids=str)
def test_yaml(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(block.page, tmp_path, monkeypatch)
    plain = values_of(block.text, tmp_path)
    if {"name", "data", "tasks"} <= plain.keys():
        census(tmp_path)
        (tmp_path / "study.yaml").write_text(block.text)
        study = load_study("study.yaml")
        assert [task.name for task in prepare(study).data.tasks] == list(plain["tasks"])
    elif "extend" in plain:
        (census_study,) = (each for each in blocks_of("yaml", page="docs/study-file.md") if each.title == "census.yaml")
        tasks = read_extension(census_study.text, block.text, tmp_path)
        assert tasks == list(plain["tasks"])
    else:
        study = load_study(with_part(plain), read_data=False)
        assert plain.keys() - {"task_defaults"} <= study.config.model_dump().keys()


def read_extension(study: str, extension: str, folder: Path) -> list[str]:
    """Read a file of new tasks for a model of the census study; the names of its tasks."""
    census(folder)
    prepared = prepare(load_study(values_of(study, folder)))
    data = prepared.data
    (folder / "later.yaml").write_text(extension)
    frame = pd.read_csv("test.csv.gz")
    frame.assign(union=["yes", "no"] * (len(frame) // 2)).to_csv("later.csv.gz", index=False)
    model = prepared.workload.network([task.name for task in data.tasks], Component("hard", {"depth": 2}))
    request = read_request(folder / "later.yaml", model)
    assert [(growth.task, growth.like, growth.depth) for growth in request.task_branches] == [("union", "income", 2)]
    known = TrainedSchema(data.preparation, {task.name: task for task in data.tasks})
    tasks = load_data(request.config.data, request.config.tasks, request.config.seed, known=known).tasks
    assert [task.labels for task in tasks] == [("<=50K", ">50K"), ("no", "yes")]
    return [task.name for task in tasks]


def test_census_study_holds_every_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    census(tmp_path)
    both = [block for block in blocks_of("yaml") if block.title == "census.yaml"]
    assert len({block.text for block in both}) == 1, "README and study file show one study"
    prepared = prepare(load_study(values_of(both[0].text, tmp_path)))
    assert [task.labels for task in prepared.data.tasks] == [("<=50K", ">50K"), ("not Never-married", "Never-married")]
    assert prepared.workload.blocks == 3


def test_own_backbone_is_found_beside_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files("docs/study-file.md", tmp_path, monkeypatch)
    (part,) = (block for block in blocks_of("yaml", page="docs/study-file.md") if block.text.startswith("backbone:"))
    study = {
        "name": "own",
        "data": {"source": {"sklearn": {"name": "iris"}}},
        "tasks": {"species": {"kind": "classification", "target": "target"}},
        **values_of(part.text, tmp_path),
        "search": {"trials": 2},
    }
    workload = prepare(load_study(study)).workload
    assert (workload.blocks, workload.base["0.1.weight"].shape) == (2, (64, 4))


def test_own_weighting_weighs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files("docs/contributing.md", tmp_path, monkeypatch)
    by_loss = importlib.import_module("own_weighting").ByLoss
    assert issubclass(by_loss, Weighting)
    weighting = by_loss(power=2.0)
    weighting.start(["a", "b"], torch.device("cpu"))
    assert torch.allclose(weighting(torch.tensor([1.0, 3.0])), torch.tensor([0.2, 1.8]))


@pytest.mark.parametrize(
    "page", sorted({block.page for block in blocks_of("python") if block.title}), ids=lambda page: page
)
def test_python_files_are_modules(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = write_files(page, tmp_path, monkeypatch)
    assert [importlib.import_module(name).__name__ for name in names] == names


@pytest.mark.parametrize(("page", "script"), page_scripts())
def test_python_runs_in_a_fresh_process(page: str, script: str, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(script)
    command = [sys.executable, "example.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1700, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Best(number=" in done.stdout
    exported = re.search(r'\.export\("([^"]+)"', script)
    assert exported is not None
    assert (tmp_path / exported[1] / "model.pt2").is_file()
    if page == "README.md":
        assert done.stderr == ""
    if page == "docs/python.md":
        assert "object:ByLoss-" in done.stdout
        assert (tmp_path / "mtl_search_runs" / "studies" / "half_digits-train" / "outcome.json").is_file()


def test_python_of_every_page_compiles() -> None:
    for block in blocks_of("python"):
        compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", blocks_of("console"), ids=str)
def test_commands_are_understood(block: Block) -> None:
    for command in commands_of(block):
        words = shlex.split(command)
        tool, rest = Path(words[0]).name, words[1:]
        assert tool in TOOLS, f"{command}: a test must know what {tool} is"
        assert [word for word in rest if word.startswith(OURS) and not (ROOT / word).exists()] == []
        if tool == "mtl-search":
            assert _parser().parse_args(rest).run
        elif tool == "make":
            assert set(rest) <= make_targets()
        elif tool == "pip":
            assert extras_in(command) <= extras()
        elif tool == "python" and rest[0].startswith("benchmarks/"):
            source = page_text(rest[0])
            beside = re.findall(r"^from (\w+) import", source, re.MULTILINE)  # another script may hold the options
            others = [ROOT / "benchmarks" / f"{name}.py" for name in beside]
            source += "".join(file.read_text(encoding="utf-8") for file in others if file.is_file())
            assert [word for word in rest if word.startswith("--") and f'"{word}"' not in source] == []


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", page_text("Makefile"), re.MULTILINE))


def extras() -> set[str]:
    _, _, below = page_text("pyproject.toml").partition("[project.optional-dependencies]\n")
    return set(re.findall(r"^(\w+) = \[", below.partition("\n[")[0], re.MULTILINE))


def extras_in(command: str) -> set[str]:
    return {extra for some in re.findall(r"mtl_search\[([\w,]+)\]", command) for extra in some.split(",")}


def test_extras_that_pages_name_exist() -> None:
    named = extras_in("".join(path.read_text(encoding="utf-8") for path in PAGES))
    assert named == {"onnx", "postgres", "solvers"} & extras()


def test_table_of_commands_holds_all_of_them_with_their_options() -> None:
    rows = re.findall(r"^\| (`mtl-search .*?`) \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    verbs = [row.split()[1].strip("`") for row in rows]
    assert set(verbs) == set(COMMANDS)
    for row, verb in zip(rows, verbs, strict=True):
        known = COMMANDS[verb]
        parser = _parser()
        with pytest.raises(SystemExit) as ended:
            parser.parse_args([verb, "--help"])
        assert ended.value.code == 0
        assert known.HELP
        for option in re.findall(r"--\w+", row):
            assert f'"{option}"' in Path(str(known.__file__)).read_text(encoding="utf-8"), f"{verb} {option}"


def test_quickstart_commands_run_in_the_test_of_the_quickstart() -> None:
    page = page_text("docs/index.md").partition("## First steps")[2]
    verbs = set(re.findall(r"^mtl-search (\w+) quickstart", page, re.MULTILINE))
    run = set(re.findall(r'run\("(\w+)", "quickstart"', page_text("tests/commands/test_quickstart.py")))
    assert verbs
    assert verbs <= run
