"""Categories that look like numbers are served as they were trained: leading zeros, long integers, gaps written out."""

import json
from pathlib import Path
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

IDS = [1234567890123456789, 1234567890123456788, 7]
ZIPS = ["00501", "10001", "501"]


@pytest.fixture(scope="module", params=["csv", "parquet"])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    place = tmp_path_factory.mktemp(request.param)
    rng = np.random.default_rng(0)
    ids = pd.Series([None if row % 7 == 2 else IDS[row % 3] for row in range(90)], dtype="Int64")
    frame = pd.DataFrame({"zip": rng.choice(ZIPS, 90), "id": ids, "w": rng.choice(["a", "NaN"], 90)})
    frame = frame.assign(grade=rng.choice(["01", "1"], 90), y=rng.normal(size=90))
    path = place / f"t.{request.param}"
    frame.to_csv(path, index=False) if request.param == "csv" else frame.to_parquet(path)
    tasks = {"grade": {"kind": "binary", "target": "grade"}, "y": {"kind": "regression", "target": "y"}}
    raw = {
        "name": "codes",
        "data": {"source": {"table": {"path": str(path), "categorical": ["zip", "id"]}}},
        "tasks": tasks,
        "backbone": {"mlp": {"width": 8, "depth": 1}},
    }
    return finish(place / "storage", raw, depth=1)


@pytest.fixture(scope="module")
def exported(study: Finished, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    return export_model(study.folder, tmp_path_factory.mktemp("export") / "codes", ("pt2", "onnx"))


@pytest.fixture(scope="module")
def served(exported: ExportReport) -> PyFuncModel:
    return mlflow.pyfunc.load_model(str(exported.folder / "mlflow_model"))


ROWS: dict[str, list[Any]] = {
    "zip": [*ZIPS, "9", "00501"],
    "id": [str(IDS[0]), str(IDS[1]), "7", None, "1234567890123456787"],
    "w": ["a", "NaN", None, "", "a"],
}


def test_every_form_of_a_model_answers_as_the_trained_one(
    study: Finished, exported: ExportReport, served: PyFuncModel
) -> None:
    wanted = study.champion.predict(ROWS)["y"]
    assert len(set(wanted.round(5).tolist())) == 5
    encoded = study.champion.encode(ROWS)
    names = input_names(study.champion.preparation.spec)
    for program in (open_pt2(exported.folder / "model.pt2"), open_onnx(exported.folder / "model.onnx", names)):
        np.testing.assert_allclose(program(encoded)[1], wanted, rtol=1e-5)
    np.testing.assert_allclose(served.predict(pd.DataFrame(ROWS))["y"], wanted, rtol=1e-5)
    assert list(served.predict(pd.DataFrame(ROWS))["grade_probabilities"][0]) == ["01", "1"]


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "inputs"])
def test_json_answers_as_a_frame_does(served: PyFuncModel, form: str) -> None:
    frame = pd.DataFrame(ROWS)
    request = {
        "dataframe_split": {"dataframe_split": frame.to_dict("split")},
        "dataframe_records": {"dataframe_records": frame.to_dict("records")},
        "inputs": {"inputs": ROWS},
    }[form]
    parsed = infer_and_parse_data(json.loads(json.dumps(request)), served.metadata.get_input_schema())
    assert served.predict(parsed).to_dict("records") == served.predict(frame).to_dict("records")


def test_numbers_find_the_category_that_spells_them(served: PyFuncModel) -> None:
    frame = pd.DataFrame(ROWS)
    numbers = frame.assign(id=pd.array([*IDS, None, IDS[0] - 2], "Int64"))
    assert served.predict(numbers).to_dict("records") == served.predict(frame).to_dict("records")
    some = frame.iloc[1:4]
    assert served.predict(some.assign(zip=[10001, 501.0, 9])).to_dict("records") == served.predict(some).to_dict(
        "records"
    )


def test_written_gaps_are_gaps(served: PyFuncModel) -> None:
    frame = pd.DataFrame({"zip": ["501"] * 5, "id": ["7"] * 5, "w": ["NaN", "nan", "<NA>", "", None]})
    (answer,) = set(served.predict(frame)["y"].round(4))
    assert answer == round(served.predict(frame.drop(columns="w"))["y"][0], 4)


def test_the_training_rows_are_answered_as_they_were_trained(study: Finished, served: PyFuncModel) -> None:
    source = study.folder.read_config().data.source
    assert source is not None
    path = Path(source.params["path"])
    rows = pd.read_csv(path, dtype=str) if path.suffix == ".csv" else pd.read_parquet(path)
    assert not (study.champion.encode(rows)[1][:, :2] == 0).any()
    assert served.predict(rows).shape == (90, 3)
