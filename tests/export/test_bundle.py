"""The exported folder: complete, the same as the trained model, and swapped in whole or not at all."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
import yaml
from finished_studies import Finished, finish
from mlflow.pyfunc.scoring_server import infer_and_parse_data
from mlflow.types.schema import DataType
from torch import Tensor, nn

from mtl_search.errors import MtlSearchError
from mtl_search.export.bundle import ExportReport, export_model
from mtl_search.export.card import model_card
from mtl_search.export.failure import ExportError
from mtl_search.export.version import description
from mtl_search.recipe import Recipe

FILES = (
    *("README.md", "labels.json", "mlflow_model", "model.json", "model.onnx", "model.pt2", "model.safetensors"),
    *("recipe.yaml", "sample_input.json"),
)


@pytest.mark.parametrize(("study", "report"), [("table_study", "exported"), ("image_study", "exported_images")])
def test_every_file_predicts_what_the_trained_model_predicts(
    study: str, report: str, request: pytest.FixtureRequest
) -> None:
    tasks = request.getfixturevalue(study).data.tasks
    made: ExportReport = request.getfixturevalue(report)
    assert made.files == FILES == tuple(sorted(path.name for path in made.folder.iterdir()))
    assert [path.name for path in made.folder.parent.iterdir()] == [made.folder.name]
    assert set(made.differences) == {"model.pt2", "model.onnx", "mlflow_model"}
    for differences in made.differences.values():
        assert list(differences) == [task.name for task in tasks]
        assert all(differences[task.name] <= 2e-6 * task.scale for task in tasks)
    assert made.rows == 5 + 1 + 2 + 7 + 33
    assert len(made.lines()) == 3 * len(tasks)


def test_card_recipe_and_sample_say_what_was_exported(exported: ExportReport, table_study: Finished) -> None:
    folder = exported.folder
    card = (folder / "README.md").read_text(encoding="utf-8")
    for said in ("+2.27 %", "-2.25 %", "Worse than alone", "income", "1,200 parameters against 2,000", "likes_a"):
        assert said in card
    assert "{" not in card.replace("{'mlp': {'width': 12, 'depth': 3}}", "")
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    assert Recipe.from_dict(recipe) == table_study.champion.recipe
    sample = json.loads((folder / "sample_input.json").read_text(encoding="utf-8"))["dataframe_split"]
    assert sample["columns"] == list(table_study.data.sample)
    assert len(sample["data"]) == 5
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))["tasks"]
    assert labels["income"] == {
        "kind": "binary",
        "answer": "second_label",
        "labels": ["low", "high"],
        "target": "income",
    }


@pytest.mark.parametrize("undefined", [["weight"], ["weight", "waist"]])
def test_card_and_version_name_tasks_without_a_figure_on_test(numbers_study: Finished, undefined: list[str]) -> None:
    champion = numbers_study.champion
    gone = dict.fromkeys(("test", "test_baseline", "test_gain"))
    tasks = {
        name: task | {"worse": False} | (gone if name in undefined else {})
        for name, task in champion.outcome["tasks"].items()
        if name in ("weight", "waist")
    }
    known = champion.outcome | {"tasks": tasks} | ({"test_improvement": None} if len(undefined) == 2 else {})
    card = model_card(replace(champion, outcome=known), {}, {}, 0)
    names = ", ".join(undefined)
    for text in (card, description(replace(champion, outcome=known))):
        assert f"without {names}, whose metric is not defined on the test labels" in text
        assert "read for the winner" not in text
    assert f"The metric of {names} is not defined on the test labels, so figures on test leave it out." in card


def test_model_names_its_needs_and_nothing_of_this_machine(exported: ExportReport) -> None:
    lines = (exported.folder / "mlflow_model" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line.partition("==")[0] for line in lines] == ["mlflow", "numpy", "pandas", "torch"]
    assert f"torch=={torch.__version__.partition('+')[0]}" in lines
    record = (exported.folder / "mlflow_model" / "MLmodel").read_text(encoding="utf-8")
    assert str(Path(__file__).parents[2]) not in record
    assert str(exported.folder.parent) not in record


def test_second_export_replaces_its_own_files_only(
    numbers_study: Finished, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export_model(numbers_study.folder, tmp_path, ("pt2", "onnx"))
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "mlflow_model" / "stale").write_text("of the first export")
    report = export_model(numbers_study.folder, tmp_path, ())
    assert set(report.differences) == {"mlflow_model"}
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"notes.txt", *report.files}
    assert not {"model.pt2", "model.onnx"} & left
    assert not (tmp_path / "mlflow_model" / "stale").exists()
    assert capfd.readouterr() == ("", "")


def test_somebody_elses_files_are_never_replaced(numbers_study: Finished, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("a project of its own")
    with pytest.raises(ExportError, match=r"it holds README\.md, which no export wrote"):
        export_model(numbers_study.folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    with pytest.raises(ExportError, match="it is a file"):
        export_model(numbers_study.folder, tmp_path / "README.md")


def test_wrong_formats_are_refused_with_what_to_do(
    numbers_study: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExportError, match=r"no export format 'tflite' \(choices: pt2, onnx\)"):
        export_model(numbers_study.folder, tmp_path, ("tflite",))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as where it is not installed
    with pytest.raises(MtlSearchError, match=r"pip install 'mtl_search\[onnx\]'"):
        export_model(numbers_study.folder, tmp_path, ("onnx",))
    assert list(tmp_path.iterdir()) == []


class Restless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class Undecided(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_tasks_may_be_named_like_inputs_and_operators_of_the_onnx_file(tmp_path: Path) -> None:
    targets = {"numbers": "Weight", "linear": "Waist", "codes": "Pulse"}
    raw = {
        "name": "named",
        "data": {"source": {"sklearn": {"name": "linnerud"}}},
        "tasks": {name: {"kind": "regression", "target": target} for name, target in targets.items()},
        "backbone": {"mlp": {"width": 8, "depth": 2}},
    }
    report = export_model(finish(tmp_path / "storage", raw, depth=0).folder, tmp_path / "model", ("onnx",))
    session = onnxruntime.InferenceSession(report.folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_outputs()] == ["numbers.output", "linear", "codes.output"]
    assert report.differences["model.onnx"].keys() == targets.keys()


def restless(input_shape: tuple[int, ...]) -> list[nn.Module]:
    return [nn.Linear(input_shape[0], 4), Restless()]


def undecided(input_shape: tuple[int, ...]) -> list[nn.Module]:
    return [nn.Linear(input_shape[0], 4), Undecided()]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("restless", r"model\.pt2: task weight differs by .* from the trained model, allowed is 0\.00"),
        ("undecided", "torch.export cannot take this model"),
    ],
)
def test_model_that_differs_once_exported_never_reaches_the_folder(
    function: str, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = {
        "name": "fitness",
        "data": {"source": {"sklearn": {"name": "linnerud"}}},
        "tasks": {"weight": {"kind": "regression", "target": "Weight"}},
        "backbone": {"python": {"function": f"{__name__}:{function}"}},
    }
    study = finish(tmp_path / "storage", raw, depth=None)
    with pytest.raises(ExportError, match=message):
        export_model(study.folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["storage"]
    assert capfd.readouterr() == ("", "")


def test_free_text_is_served_as_it_was_trained_on_and_asks_for_scikit_learn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = np.array(["good", "bad", "dull", "film", "book", "plot"])
    rows = [f"{' '.join(rng.choice(words, 9))},{rng.integers(5)},{'pq'[row % 2]},{row % 2}" for row in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["text,stars,shop,y", *rows, ",3,p,1"]) + "\n")
    source = {"table": {"path": str(tmp_path / "t.csv"), "text": ["text"], "text_features": 40}}
    tasks = {"y": {"kind": "binary", "target": "y"}}
    raw = {"name": "reviews", "data": {"source": source}, "tasks": tasks, "backbone": {"mlp": {"width": 6, "depth": 1}}}
    study = finish(tmp_path / "storage", raw, None)
    report = export_model(study.folder, tmp_path / "out", ("pt2", "onnx"))
    assert max(tasks["y"] for tasks in report.differences.values()) < 1e-5
    needs = (report.folder / "mlflow_model" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = [line.partition("==")[0] for line in needs]
    assert names == ["mlflow", "numpy", "pandas", "scikit-learn", "torch"]
    assert "`text` | free text: words and runs of up to 2 words, hashed into 40 features" in (
        report.folder / "README.md"
    ).read_text(encoding="utf-8")
    model = mlflow.pyfunc.load_model(str(report.folder / "mlflow_model"))
    schema = model.metadata.get_input_schema()
    assert [(column.name, column.type) for column in schema if column.name == "text"] == [("text", DataType.string)]
    given = {"stars": [1, 2, 3], "shop": ["p", "q", "p"], "text": ["good film", None, "unheard of " * 900]}
    wanted = study.champion.predict(given)["y"]
    for request in (
        {"inputs": given},
        {"instances": [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]},
        {"dataframe_split": {"columns": list(given), "data": list(map(list, zip(*given.values(), strict=True)))}},
    ):
        answer = model.predict(infer_and_parse_data(json.loads(json.dumps(request)), schema))
        np.testing.assert_allclose([row["1"] for row in answer["y_probabilities"]], wanted, atol=1e-6)
    empty = study.champion.predict({**given, "text": [""] * 3})["y"]
    answer = model.predict(pd.DataFrame(given).drop(columns="text"))
    np.testing.assert_allclose([row["1"] for row in answer["y_probabilities"]], empty, atol=1e-6)


def test_colour_images_and_tables_of_words_alone_work_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8), np.arange(60) % 3
    np.savez(tmp_path / "images.npz", x=x, y=y)
    words = "\n".join(f"{'ab'[row % 2]},{'pqr'[row % 3]}" for row in range(60))
    (tmp_path / "words.csv").write_text(f"word,y\n{words}\n")
    for name, source, backbone, formats in (
        ("images", {"arrays": {"path": str(tmp_path / "images.npz")}}, {"resnet": {"width": 4, "stages": 1}}, ()),
        ("words", {"table": {"path": str(tmp_path / "words.csv")}}, {"mlp": {"width": 4, "depth": 1}}, ("onnx",)),
    ):
        tasks = {"y": {"kind": "classification", "target": "y"}}
        raw = {"name": name, "data": {"source": source}, "tasks": tasks, "backbone": backbone}
        report = export_model(finish(tmp_path / "storage", raw, None).folder, tmp_path / name, formats)
        assert max(tasks["y"] for tasks in report.differences.values()) < 1e-5
