"""Tasks added to an exported model: the old ones are kept as promised, the new model is an export like any other."""

import copy
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from finished_studies import Finished, finish
from sklearn.datasets import load_digits

from mtl_search.cli import main
from mtl_search.errors import ConfigError
from mtl_search.export.batches import check_batches
from mtl_search.export.bundle import ExportReport, export_model
from mtl_search.export.failure import ExportError
from mtl_search.export.programs import open_pt2
from mtl_search.export.reopening import content_hash, reopen
from mtl_search.extension.extend import ExtensionReport, extend_model
from mtl_search.models.distributed import DistributedContext
from mtl_search.recipe import Component, Schedule
from mtl_search.results.objective import Objective
from mtl_search.storage.checkpoint import save_model
from mtl_search.training.control import NoControl
from mtl_search.training.evaluation import evaluate
from mtl_search.training.loop import Loop
from mtl_search.training.metrics import task_goals
from mtl_search.training.workspace import Workload, Workspace
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS

ROWS = [
    {"age": 39, "hours": 40, "job": "nurse", "code": 1, "member": True},
    {"age": None, "hours": 38.5, "job": None, "code": "1", "member": False},
]
LATER = {
    "town": {"kind": "classification", "target": "town"},
    "happy": {"kind": "binary", "target": "happy", "positive": "yes"},
    "score": {"kind": "regression", "target": "score"},
    "tags": {"kind": "multilabel", "target": ["tag_a", "tag_b"]},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost such small networks more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def census_model(table_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """The census of four tasks, which share the first of three blocks."""
    return export_model(table_study.folder, tmp_path_factory.mktemp("census") / "model")


@pytest.fixture(scope="module")
def extended(census_model: ExportReport, tmp_path_factory: pytest.TempPathFactory) -> ExtensionReport:
    """Four more tasks, a kind each."""
    place = tmp_path_factory.mktemp("extended")
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "age": [None if row % 7 == 3 else int(rng.integers(18, 80)) for row in range(90)],
            "hours": rng.normal(40, 5, 90).round(1),
            "job": rng.choice(["clerk", "nurse", "smith", "pilot"], 90),
            "code": rng.integers(0, 3, 90),
            "member": rng.choice([True, False], 90),
            "unheard": rng.normal(size=90),
            "town": rng.choice(["a", "b", "c"], 90),
            "happy": rng.choice(["yes", "no"], 90),
            "score": rng.normal(5, 2, 90),
            "tag_a": rng.integers(0, 2, 90),
            "tag_b": rng.integers(0, 2, 90),
            "earns": rng.choice(["low", "high"], 90),
        }
    )
    frame.to_csv(place / "later.csv", index=False)
    source = {"table": {"path": str(place / "later.csv"), "exclude": ["unheard"]}}
    tasks = {"income": {"kind": "binary", "target": "earns"}, **LATER}
    method = {"frozen": {"like": {name: "pay" if name == "score" else "income" for name in LATER}, "depth": 2}}
    extend = {"method": method, "schedule": {"epochs": 2}}
    file = write(place / "later.yaml", {"data": {"source": source}, "tasks": tasks, "extend": extend})
    before = hashes(census_model.folder)
    found = extend_model(census_model.folder, file, place / "new", lambda line: None)
    assert hashes(census_model.folder) == before, "the old folder is only read"
    return found


def test_old_predictions_of_the_exported_program_stay_the_same_bit_for_bit(
    census_model: ExportReport, extended: ExtensionReport
) -> None:
    old, new = open_pt2(census_model.folder / "model.pt2"), open_pt2(extended.report.folder / "model.pt2")
    champion = reopen(census_model.folder)
    for columns in check_batches(champion):
        was, now = old(champion.encode(columns)), new(champion.encode(columns))
        assert len(was) == 4
        assert len(now) == 8
        assert all(np.array_equal(a, b) for a, b in zip(was, now, strict=False))
    assert extended.rows == 48
    assert "bit for bit, in the exported program (48 rows)" in extended.lines()[-1]
    assert set(extended.record["moved"].values()) == {0.0}


def test_extended_model_is_an_export_like_any_other(census_model: ExportReport, extended: ExtensionReport) -> None:
    folder = extended.report.folder
    assert extended.report.files == census_model.files
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []
    answer = mlflow.pyfunc.load_model(str(folder / "mlflow_model")).predict(pd.DataFrame(ROWS))
    assert {*LATER, "income", "town_probabilities", "tags_probabilities"} <= set(answer)
    before = mlflow.pyfunc.load_model(str(census_model.folder / "mlflow_model")).predict(pd.DataFrame(ROWS))
    pd.testing.assert_frame_equal(answer[list(before)], before, check_exact=True)
    again = reopen(folder)
    assert [task.name for task in again.tasks] == ["income", "pay", "likes", "area", *LATER]
    assert "score" in str(again.model.plan)
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    np.testing.assert_allclose(again.predict(columns)["score"], answer["score"], rtol=1e-6)


def test_card_says_what_was_extended_and_what_was_kept(census_model: ExportReport, extended: ExtensionReport) -> None:
    card = (extended.report.folder / "README.md").read_text(encoding="utf-8")
    for said in (
        content_hash(census_model.folder),
        "Extended by town, happy, score, tags",
        "bit for bit",
        "one model for 8",
    ):
        assert said in card
    assert "| income | accuracy (higher is better) |" in card.split("## Extended")[1]
    assert content_hash(extended.report.folder) != content_hash(census_model.folder)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A trained model of two tasks on the upper half of digits, exported, and the folder with its data."""
    place = tmp_path_factory.mktemp("digits")
    bunch = load_digits()
    x = bunch.data[:600]
    columns = {"x": x[:, :32], "digit": bunch.target[:600], "ink": x[:, 32:].mean(1), "right": x[:, 36:40].mean(1) > 5}
    np.savez(place / "digits.npz", **columns)
    raw = {
        "name": "digits",
        "data": {"source": {"arrays": {"path": str(place / "digits.npz"), "inputs": ["x"]}}},
        "tasks": {
            "digit": {"kind": "classification", "target": "digit"},
            "ink": {"kind": "regression", "target": "ink"},
        },
        "backbone": {"mlp": {"width": 24, "depth": 2}},
    }
    study = finish(place / "storage", raw, depth=None)
    train(study, place)
    return export_model(study.folder, place / "model", ()).folder, place


def train(study: Finished, place: Path) -> None:
    workload = Workload.prepare(study.data, study.champion.blueprint.backbone, 0, "fp32")
    workspace = Workspace(workload, DistributedContext())
    loop = Loop(
        study.model,
        workspace.splits,
        Schedule(epochs=6, batch_size=32, optimizer=Component("adamw", {"lr": 0.01})),
        build(WEIGHTINGS, Component("fixed")),
        Objective({"digit": task_goals(study.data)["digit"]}, "digit"),
        workspace.metrics,
        0,
        DistributedContext(),
        place / "loop",
        workspace.base,
        workspace.activations,
    )
    study.model.load_state_dict(loop.run(NoControl()).best_state)
    assert (
        evaluate(study.model, workspace.splits["validation"], workspace.metrics, DistributedContext())["digit"][
            "metric"
        ]
        > 0.6
    )
    save_model(study.folder.trials / "abc", study.model.state_dict())


def test_learning_without_forgetting_forgets_less_than_plain_fine_tuning(digits: tuple[Path, Path]) -> None:
    folder, place = digits
    raw = {
        "data": {"source": {"arrays": {"path": str(place / "digits.npz"), "inputs": ["x"]}}},
        "tasks": {
            "digit": {"kind": "classification", "target": "digit"},
            "right": {"kind": "binary", "target": "right"},
        },
    }
    found = {}
    for strength in (0.0, 1.0):
        method = {"lwf": {"strength": strength, "warm_up": 5}}
        schedule = {"epochs": 6, "optimizer": {"adamw": {"lr": 0.01}}}
        file = write(place / "later.yaml", raw | {"extend": {"method": method, "schedule": schedule}})
        found[strength] = extend_model(folder, file, place / f"later{strength}", lambda line: None)
    plain, held = (found[strength].record for strength in (0.0, 1.0))
    for task in ("digit", "ink"):
        assert held["moved"][task] < 0.7 * plain["moved"][task]
    digit = held["tasks"]["digit"]["test"]
    assert digit["after"] > plain["tasks"]["digit"]["test"]["after"]
    for record in (plain, held):
        right = record["tasks"]["right"]["test"]
        assert right["after"] > right["trivial"] + 0.1
    card = (place / "later1.0" / "README.md").read_text(encoding="utf-8")
    assert "predictions moved on average by digit 0." in card
    assert "measured before the extension" in card


Run = Callable[..., list[str]]
LINNERUD: dict[str, Any] = {
    "data": {"source": {"sklearn": {"name": "linnerud"}}},
    "tasks": {
        "weight": {"kind": "regression", "target": "Weight"},
        "pulse": {"kind": "regression", "target": "Pulse"},
    },
    "extend": {"method": {"frozen": {"like": "weight"}}, "schedule": {"epochs": 1}},
}


@pytest.fixture(scope="module")
def fitness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of weight and waist from three exercises; they share no block."""
    place = tmp_path_factory.mktemp("fitness")
    raw = {
        "name": "fitness",
        "data": {"source": {"sklearn": {"name": "linnerud", "inputs": ["Chins", "Situps", "Jumps"]}}},
        "tasks": {name.lower(): {"kind": "regression", "target": name} for name in ("Weight", "Waist")},
        "backbone": {"mlp": {"width": 8, "depth": 2}},
    }
    return export_model(finish(place / "storage", raw, depth=0).folder, place / "fit-model", ()).folder


@pytest.fixture
def extend(fitness: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command with values of the file replaced by key path; gives the lines told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def run(changes: dict[str, Any], code: int = 2) -> list[str]:
        raw = copy.deepcopy(LINNERUD)
        for place, value in changes.items():
            *path, last = place.split(".")
            node = raw
            for key in path:
                node = node.setdefault(key, {})
            node[last] = value
        write(tmp_path / "later.yaml", raw)
        assert main(["extend", str(fitness), "later.yaml", "--output", "new"]) == code
        out, err = capsys.readouterr()
        assert code == 0 or not Path("new").exists()
        return (out if code == 0 else err).splitlines()

    return run


def test_command_tells_old_and_new_tasks_and_writes_beside(
    fitness: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "later.yaml", LINNERUD)
    assert main(["extend", str(fitness), "later.yaml"]) == 0
    told = capsys.readouterr().out
    number = r"\d+\.?\d*"
    old = rf"^old task weight: rmse on validation ({number}) -> \1, on test ({number}) -> \2; lower is better$"
    assert re.search(old, told, re.MULTILINE)
    new = rf"^new task pulse: rmse on validation {number} \({number} by guessing\), on test .*; lower is better, epoch "
    assert re.search(new, told, re.MULTILINE)
    assert "unchanged, bit for bit" in told
    assert f"wrote {fitness.parent / 'fit-model-extended'}: README.md" in told
    assert main(["extend", str(fitness), "later.yaml", "--output", str(fitness)]) == 2
    assert "the old model stays as it is; name another folder" in capsys.readouterr().err


PETALS = {"sklearn": {"name": "iris"}}
MISTAKES = [
    ({"taks": {}}, "taks: is not a known key (choices: data, tasks, task_defaults, seed, extend)"),
    ({"backbone": "mlp"}, "backbone: is not a known key (choices: data, tasks, task_defaults, seed, extend)"),
    ({"extend.shedule": {}}, "extend.shedule: is not a known key (choices: method, schedule)"),
    ({"extend.schedule": {True: 1}}, "extend.schedule.true: must be text, as every key: write it in quotes, got true"),
    ({"extend": 3}, "extend: must be a mapping, got 3 (choices: method, schedule)"),
    ({"extend.method": "forzen"}, "extend.method: must be a known variant or package.module:Name, got 'forzen'"),
    ({"extend.method": {"frozen": {"deep": 1}}}, "extend.method.frozen.deep: is not a parameter of frozen"),
    ({"extend.method": {"lwf": {"strength": -1.0}}}, "extend.method.lwf.strength: must be at least 0, got -1.0"),
    ({"extend.method": "frozen"}, "extend.method.frozen.like: must name the old task whose way through the blocks"),
    ({"extend.method.frozen.like": "pulse"}, "extend.method.frozen.like: must name a task of the model, got 'pulse'"),
    ({"extend.method.frozen.depth": 3}, "extend.method.frozen.depth: must be at most the model's 2 blocks, got 3"),
    ({"extend.schedule.epoch": 3}, "extend.schedule.epoch: is not a known key (choices: epochs, "),
    ({"extend.schedule.epochs": {"int": [1, 9]}}, "extend.schedule.epochs: must be a fixed value here: nothing is sea"),
    ({"extend.schedule.epochs": 0}, "extend.schedule.epochs: must be at least 1, got 0"),
    ({"data.stream": True}, "data.stream: has no effect here"),
    ({"extend.schedule.unfreezing": "gradual"}, "extend.schedule.unfreezing: has no effect here"),
    ({"tasks.pulse.metric": "rsme"}, "tasks.pulse.metric: must be a metric for regression tasks"),
    ({"tasks.pulse.target": "Puls"}, "tasks.pulse.target: must name a column of data set 'main'"),
    ({"tasks.pulse.target": "Jumps"}, "tasks: must not have an input column of the model as target, got 'Jumps'"),
    ({"tasks.weight.kind": "classification"}, "tasks.weight.kind: must be the kind that the model's task has, got"),
    ({"tasks.weight.loss": "l1"}, "tasks.weight.loss: has no effect: the model has this task already"),
    ({"tasks.weight.weight": "Waist"}, "tasks.weight.weight: has no effect: the model has this task already, which is"),
    ({"tasks": {"weight": LINNERUD["tasks"]["weight"]}}, "tasks: must have a task that the model does not have"),
    ({"data.source": PETALS}, "data.source.sklearn: must have the model's input columns (split train), got 'Chins'"),
    ({"data.source.sklearn.inputs": ["Chins"]}, "data.source.sklearn.inputs: must be left out, or be the model's in"),
    ({"data.source.sklearn.nmae": "iris"}, "data.source.sklearn.nmae: is not a parameter of sklearn (choices: "),
]


@pytest.mark.parametrize(("changes", "told"), MISTAKES, ids=[told[:40] for _, told in MISTAKES])
def test_a_mistake_is_told_with_place_rule_and_value(extend: Run, changes: dict[str, Any], told: str) -> None:
    lines = extend(changes)
    assert all(line.startswith("error: ") for line in lines), "one line an error, no traceback"
    assert any(line.startswith(f"error: {told}") for line in lines), lines


def test_several_mistakes_are_told_at_once(extend: Run) -> None:
    changes = {"taks": 1, "tasks.pulse.kind": "number", "extend.schedule.epochs": -1, "extend.method.frozen.depth": 9}
    assert {line.removeprefix("error: ").partition(":")[0] for line in extend(changes)} == set(changes)


def test_a_new_task_is_not_named_like_a_column_that_the_model_answers_in(
    census_model: ExportReport, tmp_path: Path
) -> None:
    tasks = {"area_probabilities": {"kind": "regression", "target": "score"}}
    file = write(tmp_path / "later.yaml", {"data": {"source": {"table": {"path": "later.csv"}}}, "tasks": tasks})
    rule = r"tasks\.area_probabilities: must not be named like the column of probabilities of task area"
    with pytest.raises(ConfigError, match=rule):
        extend_model(census_model.folder, file, tmp_path / "new", print)


def test_folder_that_cannot_be_extended_is_told(fitness: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is no exported model"):
        extend_model(tmp_path, tmp_path / "x.yaml", tmp_path / "new", print)
    old = tmp_path / "old"
    old.mkdir()
    (old / "labels.json").write_bytes((fitness / "labels.json").read_bytes())
    with pytest.raises(ExportError, match=r"lacks model\.json, which older versions did not write: export"):
        reopen(old)
    for name in ("model.json", "model.safetensors"):
        (old / name).write_bytes((fitness / name).read_bytes())
    save_model(old, {"blocks.0.0.weight": torch.zeros(2)})
    with pytest.raises(ExportError, match="do not fit each other"):
        reopen(old)
