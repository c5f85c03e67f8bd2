"""Raw columns to arrays: what training encodes, a served row encodes the same."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_search.input_kinds.encoding import encode
from mtl_search.input_kinds.values import text_of

TABLE = {"kind": "table", "numeric": ["age"], "categorical": {"job": ["", "cook", "judge"]}, "missing": "error"}
IMPUTED = {**TABLE, "missing": "impute"}
IMAGE = {"kind": "array", "column": "x", "shape": [2, 3], "dtype": "uint8"}
VECTOR = {"kind": "array", "column": "x", "shape": [2], "dtype": "float32"}

jobs = st.sampled_from(["", "cook", "judge", "pilot", None])
ages = st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6) | st.none()


@given(st.lists(st.tuples(ages, jobs), min_size=1, max_size=8))
def test_json_rows_encode_as_columns_do(rows: list[tuple[float | None, str | None]]) -> None:
    as_json = json.loads(json.dumps({"age": [age for age, _ in rows], "job": [job for _, job in rows]}))
    as_frame = pd.DataFrame({"age": pd.Series(as_json["age"], dtype=float), "job": as_json["job"]})
    for one, other in zip(encode(as_json, IMPUTED), encode(as_frame, IMPUTED), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("spec", [{**IMAGE, "dtype": "float32"}, IMAGE])
def test_nested_lists_encode_as_arrays_do(spec: dict[str, object]) -> None:
    images = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    (as_array,), (as_lists,) = encode({"x": images}, spec), encode({"x": json.loads(json.dumps(images.tolist()))}, spec)
    (as_frame,) = encode(pd.DataFrame({"x": images.tolist()}), spec)
    assert as_array.dtype == as_lists.dtype == as_frame.dtype == np.dtype(str(spec["dtype"]))
    np.testing.assert_array_equal(as_array, as_lists)
    np.testing.assert_array_equal(as_array, as_frame)


def test_code_zero_is_for_categories_that_training_never_saw() -> None:
    _, codes = encode({"age": [1, 2, 3, 4], "job": ["cook", "pilot", None, "judge"]}, TABLE)
    assert codes[:, 0].tolist() == [2, 0, 1, 3]


def test_missing_category_is_unknown_where_training_had_none() -> None:
    _, codes = encode({"age": [1], "job": [None]}, {**TABLE, "categorical": {"job": ["cook"]}})
    assert codes.tolist() == [[0]]


def test_a_number_and_its_spelling_are_one_category() -> None:
    assert {text_of(value) for value in (3, 3.0, "3", np.int8(3), np.float32(3), b"3")} == {"3"}
    assert {text_of(value) for value in (None, float("nan"), pd.NA, pd.NaT, "")} == {""}
    assert (text_of(True), text_of(2.5)) == ("True", "2.5")


def test_texts_are_categories_as_they_are_and_numbers_find_the_one_that_spells_them() -> None:
    spec = {**TABLE, "categorical": {"job": ["00501", "1", "01", "002", "2.0", "1234567890123456789"]}}

    def codes(*values: object) -> list[int]:
        return encode({"age": [1] * len(values), "job": list(values)}, spec)[1][:, 0].tolist()

    assert codes("00501", "501", "1", "01", "1.0", " 1", "1.00", "002") == [1, 0, 2, 3, 2, 2, 0, 4]
    assert codes(501, 501.0, np.int32(501), 1, 1.0, 7) == [1, 1, 1, 2, 2, 0]
    assert codes(2, True) == [0, 0], "two categories spell 2, none spells a truth"
    assert codes(1234567890123456789, 1234567890123456788, 1234567890123456789.0) == [6, 0, 6]
    assert encode({"age": [1, 1], "job": np.array([501.0, np.nan])}, spec)[1][:, 0].tolist() == [1, 0]
    truths = {**TABLE, "categorical": {"job": ["False", "True"]}}
    given = ["true", "TRUE", True, "False", "tRUE"]
    assert encode({"age": [1] * 5, "job": given}, truths)[1][:, 0].tolist() == [2, 2, 2, 1, 0]


def test_a_missing_value_written_out_is_a_gap_unless_a_model_knows_it_as_a_word() -> None:
    gaps = {"age": [1] * 5, "job": ["NaN", "nan", "<NA>", None, ""]}
    assert encode(gaps, TABLE)[1][:, 0].tolist() == [1] * 5
    old = {**TABLE, "categorical": {"job": ["", "cook", "nan"]}}
    assert encode(gaps, old)[1][:, 0].tolist() == [1, 3, 1, 1, 1]


def test_nullable_columns_of_pandas_keep_digits_and_gaps() -> None:
    spec = {**IMPUTED, "categorical": {"job": ["", "1234567890123456788", "1234567890123456789"]}}
    jobs = pd.array([1234567890123456789, None, 1234567890123456788], "Int64")
    numbers, codes = encode(pd.DataFrame({"age": pd.array([1, None, 3], "Int64"), "job": jobs}), spec)
    np.testing.assert_array_equal(numbers[:, 0], [1, np.nan, 3])
    assert codes[:, 0].tolist() == [3, 1, 2]


def test_columns_that_the_spec_does_not_name_are_left_alone() -> None:
    numbers, _ = encode({"age": [1], "job": ["cook"], "salary": ["a lot"]}, TABLE)
    assert numbers.tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("columns", "spec", "message"),
    [
        ({"age": [1]}, TABLE, "'job': must be given, got only 'age'"),
        ({}, TABLE, "'age': must be given, got only no columns"),
        ({"age": [1, 2], "job": ["cook"]}, TABLE, "'job': must have 2 rows as 'age' has, got 1"),
        ({"age": ["old"], "job": ["cook"]}, TABLE, "'age': must hold numbers, got 'old' in row 0"),
        ({"age": [1, None], "job": ["cook", "cook"]}, TABLE, "none missing, got nan in row 1"),
        ({"age": [float("inf")], "job": ["cook"]}, IMPUTED, "finite numbers .float32., got inf in row 0"),
        ({"age": [1e300], "job": ["cook"]}, TABLE, "finite numbers"),
        ({"age": 1, "job": ["cook"]}, TABLE, r"'age': must hold one value a row, got the shape \(\)"),
        ({"age": [[1]], "job": ["cook"]}, TABLE, r"got the shape \(1, 1\)"),
        ({"y": [1]}, IMAGE, "'x': must be given"),
        ({"x": [[1, 2], [3]]}, VECTOR, r"rows of the shape \(2,\), got rows of different shapes"),
        ({"x": [[1, 2, 3]]}, VECTOR, r"rows of the shape \(2,\), got the shape \(3,\)"),
        ({"x": 7}, VECTOR, r"rows of the shape \(2,\)"),
        ({"x": [["a", "b"]]}, VECTOR, "must hold numbers"),
        ({"x": [[1.0, float("nan")]]}, VECTOR, "none missing, got nan in row 0"),
        ({"x": [[[0, 1, 2], [3, 4, 256]]]}, IMAGE, "whole numbers from 0 to 255, got 256"),
        ({"x": [[[0, 1, 2], [3, 4, 0.5]]]}, IMAGE, "whole numbers from 0 to 255, got 0.5"),
        ({"x": [[[0, 1, 2], [3, 4, float("nan")]]]}, IMAGE, "whole numbers from 0 to 255, got nan"),
    ],
)
def test_a_malformed_row_is_refused_with_column_rule_and_value(
    columns: dict[str, object], spec: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        encode(columns, spec)
