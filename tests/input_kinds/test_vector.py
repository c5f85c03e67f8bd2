"""Lists of numbers beside other columns: from files to features, and what is wrong with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from prepared import fitted

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.study_data import StudyData, load_data
from mtl_search.errors import DataError
from mtl_search.input_kinds.encoding import encode
from mtl_search.input_kinds.preparation import Preparation

ROWS = 60
TASK = {"t": TaskConfig.model_validate({"kind": "regression", "target": "y"})}
lists = hnp.arrays(np.float64, st.tuples(st.integers(2, 9), st.integers(1, 4)), elements=st.floats(-100, 100))


def features(preparation: Preparation, columns: dict[str, Any]) -> np.ndarray:
    return preparation(*map(torch.from_numpy, encode(columns, preparation.spec)))["table"].numpy()


def frame(missing: tuple[int, ...] = ()) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    emb = [None if row in missing else rng.normal(4, 2, 3).tolist() for row in range(ROWS)]
    word = rng.choice(["p", "q"], ROWS)
    return pd.DataFrame({"age": rng.normal(size=ROWS), "emb": emb, "word": word, "y": rng.normal(size=ROWS)})


def written(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        table.to_parquet(path, row_group_size=7)
    else:
        texts = [value if value is None else json.dumps(value) for value in table["emb"]]
        table.assign(emb=texts).to_csv(path, index=False)
    return path


def load(path: Path, stream: bool = False, **source: Any) -> StudyData:
    data = {"source": {"table": {"path": str(path), **source}}, "stream": stream}
    return load_data(DataConfig.model_validate(data), TASK, seed=0)


@given(lists)
def test_every_number_is_standardised_as_numpy_would(values: np.ndarray) -> None:
    preparation = fitted({"v": "vector"}, {"v": values})
    single = values.astype(np.float32).astype(np.float64)
    spread = single.std(axis=0)
    found = features(preparation, {"v": values})
    varies = spread > 1e-3 * np.maximum(1, np.abs(single.mean(axis=0)))
    wanted = (single - single.mean(axis=0))[:, varies] / spread[varies]
    np.testing.assert_allclose(found[:, varies], wanted, atol=2e-3)
    assert np.isfinite(found).all()


def test_lists_in_any_form_are_the_same_lists() -> None:
    values = np.random.default_rng(0).normal(size=(5, 2))
    spec = fitted({"v": "vector"}, {"v": values}).spec
    plain = values.tolist()
    forms: list[Any] = [values, plain, [json.dumps(row) for row in plain], pd.Series(plain), [*map(tuple, plain)]]
    for form in forms:
        np.testing.assert_array_equal(encode({"v": form}, spec)[2], values.astype(np.float32))


def test_a_missing_list_is_the_mean_with_an_indicator() -> None:
    rows = {"v": np.array([[1.0, 10.0], [3.0, 30.0], None, [2.0, 20.0]], dtype=object), "n": np.arange(4.0)}
    preparation = fitted({"v": "vector", "n": "number"}, rows, missing="impute")
    assert preparation.feature_shape == (1 + 2 + 1,)
    found = features(preparation, rows)[:, 1:]
    np.testing.assert_allclose(found[:, 0], np.array([-1, 1, 0, 0]) / np.sqrt(2 / 3), rtol=1e-6)
    assert found[:, 2].tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("gaps", [(), (4, 50)])
def test_parquet_csv_and_a_stream_give_the_same_data(gaps: tuple[int, ...], tmp_path: Path) -> None:
    table, settings = frame(gaps), {"missing": "impute"} if gaps else {}
    parquet, text = written(table, tmp_path / "t.parquet"), written(table, tmp_path / "t.csv")
    held, streamed, from_text = (
        load(parquet, **settings),
        load(parquet, stream=True, **settings),
        load(text, **settings),
    )
    assert held.preparation.feature_shape == (1 + 3 + (len(gaps) > 0) + 2,)
    assert held.preparation.spec["vectors"]["columns"] == {"emb": 3}
    assert held.key == streamed.key == from_text.key


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["[1, 2]", "[1]"], r"must hold lists of one length, 2 numbers, \(column 'v', split train\), in row 1"),
        (["[1, 2]", "[1, null]"], r"must hold lists of finite numbers \(float32\) .*in row 1 .*'\[1, null\]'"),
        (["[1, 2]", "[1, 2"], r"must hold lists of finite numbers .*in row 1"),
        (["[1, 2]", '["a", "b"]'], r"must hold lists of finite numbers .*in row 1"),
        (["[1, 2]", "[1, 1e300]"], r"must hold lists of finite numbers .*in row 1"),
        (["[1, 2]", ""], r"must hold a list of numbers in every row unless the source says `missing: impute`"),
        (["[]", "[]"], r"must hold lists of one length, 0 numbers"),
        (["[1, 2]", "7"], r"must hold lists of finite numbers .*in row 1"),
        (["[[1, 2]]", "[[1, 2]]"], r"must hold lists of finite numbers .*in row 0"),
    ],
)
def test_what_is_wrong_with_a_list_is_told_with_its_row(values: list[str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    pd.DataFrame({"v": values * 30, "y": np.arange(60.0), "n": np.arange(60.0)}).to_csv(path, index=False)
    with pytest.raises(DataError, match=f"data.source.table.inputs: {message}"):
        load(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1, 2, 3]], "lists of 2 numbers, got one of 3 in row 0"),
        (np.ones((1, 3)), "lists of 2 numbers, got lists of 3"),
        (["[1, 2"], r"lists of 2 numbers, got '\[1, 2' in row 0"),
        ([7], "lists of 2 numbers, got 7 in row 0"),
        ([None], "finite numbers .float32., none missing, got nan in row 0"),
        ([[1, float("inf")]], "finite numbers .float32., none missing, got inf in row 0"),
    ],
)
def test_a_malformed_list_is_refused_by_a_served_model(value: Any, message: str) -> None:
    spec = fitted({"v": "vector"}, {"v": np.random.default_rng(0).normal(size=(5, 2))}).spec
    with pytest.raises(ValueError, match=f"column 'v': must hold {message}"):
        encode({"v": value}, spec)


def test_one_column_of_lists_alone_is_an_array_as_before(tmp_path: Path) -> None:
    path = written(frame(), tmp_path / "t.parquet")
    assert load(path, inputs=["emb"]).preparation.spec["kind"] == "array"
    assert load(path, inputs=["emb", "age"]).preparation.spec["kind"] == "table"


def test_numbers_that_float32_cannot_tell_apart_are_standardised_in_float64() -> None:
    near = np.random.default_rng(1).random((50, 2))
    far = near * 1000 + 1.7e12
    preparation = fitted({"v": "vector"}, {"v": far})
    assert preparation.spec["vectors"]["dtype"] == "float64"
    np.testing.assert_allclose(
        features(preparation, {"v": far}), (near - near.mean(axis=0)) / near.std(axis=0), atol=1e-3
    )
