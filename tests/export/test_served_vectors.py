"""A study whose rows hold lists of numbers beside other columns: every exported form answers as the trained model."""

import json
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from finished_studies import Finished, finish
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import infer_and_parse_data

from mtl_search.export.bundle import ExportReport, export_model
from mtl_search.export.programs import input_names, open_onnx, open_pt2

ROWS: dict[str, list[Any]] = {
    "emb": [[0.5, 1.0, -2.0], None, [1, 2, 3], [0.0, 0.0, 0.0]],
    "age": [30.0, 41.5, 18.0, 77.0],
    "word": ["p", "q", None, "r"],
}


@pytest.fixture(scope="module", params=["csv", "parquet"])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    place = tmp_path_factory.mktemp(request.param)
    rng = np.random.default_rng(0)
    emb = rng.normal(size=(90, 3))
    frame = pd.DataFrame({"age": rng.normal(40, 9, 90), "word": rng.choice(["p", "q"], 90)})
    frame = frame.assign(y=emb[:, 0] - 2 * emb[:, 1], c=np.where(emb[:, 2] > 0, "up", "down"))
    lists: list[Any] = [None if row % 11 == 4 else values for row, values in enumerate(emb.tolist())]
    path = place / f"t.{request.param}"
    if request.param == "csv":
        frame.assign(emb=[each and json.dumps(each) for each in lists]).to_csv(path, index=False)
    else:
        frame.assign(emb=lists).to_parquet(path)
    raw = {
        "name": "lists",
        "data": {"source": {"table": {"path": str(path), "missing": "impute"}}},
        "tasks": {"y": {"kind": "regression", "target": "y"}, "c": {"kind": "binary", "target": "c"}},
        "backbone": {"mlp": {"width": 8, "depth": 1}},
    }
    return finish(place / "storage", raw, depth=1)


@pytest.fixture(scope="module")
def exported(study: Finished, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    return export_model(study.folder, tmp_path_factory.mktemp("export") / "lists", ("pt2", "onnx"))


@pytest.fixture(scope="module")
def served(exported: ExportReport) -> PyFuncModel:
    return mlflow.pyfunc.load_model(str(exported.folder / "mlflow_model"))


def test_every_form_of_the_model_answers_as_the_trained_one(
    study: Finished, exported: ExportReport, served: PyFuncModel
) -> None:
    wanted = study.champion.predict(ROWS)["y"]
    assert len(set(wanted.round(5).tolist())) == 4
    encoded = study.champion.encode(ROWS)
    names = input_names(study.champion.preparation.spec)
    assert names == ("numbers", "codes", "vectors")
    for program in (open_pt2(exported.folder / "model.pt2"), open_onnx(exported.folder / "model.onnx", names)):
        np.testing.assert_allclose(program(encoded)[0], wanted, rtol=1e-5)
    np.testing.assert_allclose(served.predict(pd.DataFrame(ROWS))["y"], wanted, rtol=1e-5)


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "inputs"])
def test_json_answers_as_a_frame_does(served: PyFuncModel, form: str) -> None:
    frame = pd.DataFrame(ROWS)
    request = {
        "dataframe_split": {"dataframe_split": frame.to_dict("split")},
        "dataframe_records": {"dataframe_records": frame.to_dict("records")},
        "inputs": {"inputs": ROWS},
    }
    rows = infer_and_parse_data(json.loads(json.dumps(request[form])), served.metadata.get_input_schema())
    np.testing.assert_allclose(served.predict(rows)["y"], served.predict(frame)["y"], rtol=1e-6)


def test_lists_as_json_text_answer_as_lists_do(served: PyFuncModel) -> None:
    spelled = pd.DataFrame({**ROWS, "emb": [each and json.dumps(each) for each in ROWS["emb"]]})
    np.testing.assert_array_equal(served.predict(spelled)["y"], served.predict(pd.DataFrame(ROWS))["y"])


def test_a_list_of_another_length_is_refused_by_name(served: PyFuncModel) -> None:
    with pytest.raises(
        mlflow.MlflowException, match=r"column 'emb': must hold lists of 3 numbers, got one of 2 in row 0"
    ):
        served.predict(pd.DataFrame({**ROWS, "emb": [[1, 2], None, None, None]}))


def test_the_card_tells_of_lists(exported: ExportReport) -> None:
    card = (exported.folder / "README.md").read_text(encoding="utf-8")
    assert "| `emb` | list of 3 numbers | may be missing |" in card
    assert "A missing list of numbers is taken for the mean of the training rows." in card
