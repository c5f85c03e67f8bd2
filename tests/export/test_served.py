"""The MLflow model takes the rows that people have, and answers in plain values, without this package."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from finished_studies import Finished
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, scoring_server
from mlflow.pyfunc.scoring_server import infer_and_parse_data
from mlflow.types import ColSpec, Schema

from mtl_search.export.bundle import ExportReport, export_model
from mtl_search.input_kinds.values import numbers_of

ROWS = [
    {"age": 39, "hours": 40, "job": "nurse", "code": 1, "member": True},
    {"age": None, "hours": 38.5, "job": None, "code": "1", "member": False},
    {"age": 61, "hours": None, "job": "astronaut", "code": None, "member": None},
]


@pytest.fixture(scope="module")
def table(exported: ExportReport) -> PyFuncModel:
    return mlflow.pyfunc.load_model(str(exported.folder / "mlflow_model"))


@pytest.fixture(scope="module")
def images(exported_images: ExportReport) -> PyFuncModel:
    return mlflow.pyfunc.load_model(str(exported_images.folder / "mlflow_model"))


def columns_of(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def split_of(columns: dict[str, list[Any]]) -> dict[str, Any]:
    return {"dataframe_split": {"columns": list(columns), "data": list(map(list, zip(*columns.values(), strict=True)))}}


def test_answers_are_labels_values_and_probabilities(table: PyFuncModel, table_study: Finished) -> None:
    answer = table.predict(pd.DataFrame(ROWS, index=[7, 8, 9]))
    assert list(answer.index) == [7, 8, 9]
    assert list(answer) == [
        *("income", "income_probabilities", "pay", "likes", "likes_probabilities", "area", "area_probabilities")
    ]
    wanted = table_study.champion.predict(columns_of(ROWS))
    np.testing.assert_allclose([row["high"] for row in answer["income_probabilities"]], wanted["income"], atol=1e-6)
    np.testing.assert_allclose(answer["pay"], wanted["pay"], rtol=1e-5)
    for row, area, likes in zip(answer.to_dict("records"), wanted["area"], wanted["likes"], strict=True):
        assert row["area"] == ("north", "south", "west")[area.argmax()]
        assert row["likes"] == [name for name, p in zip(("likes_a", "likes_b"), likes, strict=True) if p > 0.5]
        assert row["income"] == max(row["income_probabilities"], key=row["income_probabilities"].get)
        assert json.loads(json.dumps(row)) == row


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "inputs", "instances"])
def test_every_json_form_of_a_server_gives_the_same_answer(table: PyFuncModel, form: str) -> None:
    columns = columns_of(ROWS)
    request = {
        "dataframe_split": split_of(columns),
        "dataframe_records": {"dataframe_records": ROWS},
        "inputs": {"inputs": columns},
        "instances": {"instances": ROWS},
    }[form]
    parsed = infer_and_parse_data(json.loads(json.dumps(request)), table.metadata.get_input_schema())
    got, wanted = table.predict(parsed), table.predict(pd.DataFrame(ROWS))
    assert got.to_dict("records") == wanted.to_dict("records")


def test_whole_numbers_texts_and_left_out_columns_are_taken(table: PyFuncModel) -> None:
    frame = pd.DataFrame([{"age": 39, "hours": 40, "job": "nurse", "code": 1, "member": True}])
    assert frame["age"].dtype == np.int64
    wanted = table.predict(frame).to_dict("records")
    for same in (
        frame.astype({"age": float, "hours": np.float32, "code": str, "member": str}),
        frame.astype({"age": "Int64", "code": float, "job": "string"}),
        frame.iloc[:, ::-1].assign(extra=1),
        frame.to_dict("list"),
    ):
        assert table.predict(same).to_dict("records") == wanted
    given = table.predict(frame.assign(age=None, job=None)).to_dict("records")
    assert table.predict(frame.drop(columns=["age", "job"])).to_dict("records") == given


def asked(model: PyFuncModel, csv: str) -> Any:
    """What MLflow's server answers to a request of CSV."""
    answer = scoring_server.invocations(
        csv.encode(), "text/csv; charset=utf-8", model, model.metadata.get_input_schema()
    )
    assert answer.status == 200
    return json.loads(answer.response)["predictions"]


def test_csv_gives_the_same_answer(table: PyFuncModel, tmp_path: Path) -> None:
    wanted = table.predict(pd.DataFrame(ROWS)).to_dict("records")
    csv = "age,hours,job,code,member\n39,40,nurse,1,True\n,38.5,,1,False\n61,,astronaut,,\n"
    assert asked(table, csv) == wanted
    assert asked(table, pd.DataFrame(ROWS).to_csv()) == wanted, "with names of rows, and whole numbers as 1.0"
    assert asked(table, csv.replace("61,,", "61,NA,")) == wanted
    left_out = asked(table, "hours,code\n40,01\n")
    assert left_out == table.predict(pd.DataFrame({"hours": [40], "code": ["01"]})).to_dict("records")
    (tmp_path / "rows.csv").write_text(csv)
    assert table.predict(scoring_server.parse_csv_input(tmp_path / "rows.csv")).to_dict("records") == wanted


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        ("", "must hold CSV with a header: No columns"),
        ("age,hours\n1,2,3\n", "must hold CSV with a header: the rows hold more values than the header names"),
        ('"a', "must hold CSV with a header: "),
        ("age,hours\nx,2\n", "column 'age': must hold numbers, got 'x' in row 0"),
    ],
)
def test_csv_that_cannot_be_used_is_refused(table: PyFuncModel, csv: str, message: str) -> None:
    with pytest.raises(MlflowException, match=message) as told:
        asked(table, csv)
    assert told.value.get_http_status_code() == 400


def test_csv_of_another_model_is_read_as_ever(table: PyFuncModel) -> None:
    schema = Schema([ColSpec("double", "a"), ColSpec("string", "b")])
    rows = scoring_server.parse_csv_input(io.StringIO("a,b\n1,007\n"), schema)
    assert rows.to_dict("records") == [{"a": 1.0, "b": "007"}]


@pytest.mark.parametrize("backend", ["numpy_nullable", "pyarrow"])
def test_gaps_of_pandas_nullable_columns_are_gaps(table: PyFuncModel, backend: Any) -> None:
    plain = pd.DataFrame(columns_of(ROWS))
    nullable = plain.assign(code=[1, 1, None]).convert_dtypes(dtype_backend=backend)
    assert all(pd.api.types.is_extension_array_dtype(dtype) for dtype in nullable.dtypes)
    assert nullable.isna().to_numpy().sum() == plain.isna().to_numpy().sum() == 5
    pd.testing.assert_frame_equal(table.predict(nullable), table.predict(plain))


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("Int64", [39, pd.NA, 61]),
        ("Float64", [39.0, pd.NA, 61.0]),
        ("boolean", [True, pd.NA, False]),
        (object, [39, pd.NaT, 61]),
    ],
)
def test_a_gap_is_a_gap_in_every_type_of_a_numeric_column(values: list[Any], dtype: Any) -> None:
    column = pd.Series(values, dtype=dtype).to_numpy()
    np.testing.assert_array_equal(numbers_of("age", column), [values[0], np.nan, values[2]])


def test_rows_that_cannot_be_used_are_refused_by_column_rule_and_value(
    table: PyFuncModel, numbers_study: Finished, tmp_path: Path
) -> None:
    with pytest.raises(MlflowException, match="column 'age': must hold numbers, got 'old' in row 1"):
        table.predict(pd.DataFrame([ROWS[0], ROWS[0] | {"age": "old"}]))
    export_model(numbers_study.folder, tmp_path, ())
    strict = mlflow.pyfunc.load_model(str(tmp_path / "mlflow_model"))
    row = {name: values[0] for name, values in numbers_study.data.sample.items()}
    first, second, *_ = row
    with pytest.raises(MlflowException, match=f"column '{first}': .* none missing"):
        strict.predict(pd.DataFrame([row | {first: None}]))
    with pytest.raises(MlflowException, match=rf"missing inputs \['{second}'\]"):
        strict.predict(pd.DataFrame([row]).drop(columns=second))


def test_no_rows_give_an_empty_answer_and_many_rows_come_in_order(table: PyFuncModel) -> None:
    assert table.predict(pd.DataFrame(ROWS).head(0)).shape == (0, 7)
    many = pd.DataFrame(ROWS * 900, index=pd.RangeIndex(2700))
    pay = table.predict(many)["pay"].to_numpy().reshape(900, 3)
    np.testing.assert_allclose(pay, np.broadcast_to(table.predict(pd.DataFrame(ROWS))["pay"], (900, 3)), rtol=1e-5)


def test_images_are_taken_as_nested_lists_and_as_arrays(images: PyFuncModel, image_study: Finished) -> None:
    nested = image_study.data.sample["image"]
    wanted = images.predict({"image": np.asarray(nested)}).to_dict("records")
    assert {row["digit"] for row in wanted} <= set(map(str, range(10)))
    schema = images.metadata.get_input_schema()
    forms = [
        pd.DataFrame({"image": nested}),
        pd.DataFrame({"image": list(np.asarray(nested, dtype=np.uint8))}),
        [{"image": image} for image in nested],
        infer_and_parse_data(split_of({"image": nested}), schema),
        infer_and_parse_data({"inputs": {"image": nested}}, schema),
        infer_and_parse_data({"inputs": nested}, schema),
        infer_and_parse_data({"instances": [{"image": image} for image in nested]}, schema),
    ]
    for form in forms:
        assert images.predict(form).to_dict("records") == wanted
    assert images.unwrap_python_model().predict(None, np.asarray(nested)).to_dict("records") == wanted


def test_two_models_live_in_one_process(table: PyFuncModel, images: PyFuncModel, image_study: Finished) -> None:
    before = table.predict(pd.DataFrame(ROWS)).to_dict("records")
    images.predict({"image": np.asarray(image_study.data.sample["image"])})
    assert table.predict(pd.DataFrame(ROWS)).to_dict("records") == before


ALONE = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"mtl_search", "ray", "optuna", "safetensors"}:
            raise ImportError(name)

sys.meta_path.insert(0, Blocker())
import mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(pandas.DataFrame(json.loads(sys.argv[2])))
print(json.dumps(answer.to_dict("records")))
"""


def test_process_without_this_package_predicts_the_same(
    exported: ExportReport, table: PyFuncModel, tmp_path: Path
) -> None:
    moved = shutil.copytree(exported.folder / "mlflow_model", tmp_path / "elsewhere")
    command = [sys.executable, "-c", ALONE, str(moved), json.dumps(ROWS)]
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=settings, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == table.predict(pd.DataFrame(ROWS)).to_dict("records")
