"""Features: against closed forms in numpy, through JSON and back, and through torch.export."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from prepared import fitted_array, fitted_table

from mtl_search.input_kinds.encoding import encode
from mtl_search.input_kinds.preparation import Preparation

numbers = hnp.arrays(np.float64, st.integers(2, 12), elements=st.floats(-1e4, 1e4))


def apply(preparation: Preparation, columns: dict[str, np.ndarray]) -> np.ndarray:
    encoded = encode(columns, preparation.spec)
    (features,) = preparation(*(torch.from_numpy(values) for values in encoded)).values()
    return features.numpy()


def table() -> tuple[Preparation, dict[str, np.ndarray]]:
    rows = {
        "age": np.array([20.0, 30.0, np.nan, 70.0]),
        "same": np.array([7, 7, 7, 7]),
        "job": np.array(["cook", "judge", "cook", None], dtype=object),
        "zone": np.array([2, 10, 2, 1]),
    }
    return fitted_table(rows, ["age", "same"], ["job", "zone"], "impute"), rows


@given(numbers)
def test_numbers_are_standardised_as_numpy_would(values: np.ndarray) -> None:
    single = values.astype(np.float32).astype(np.float64)
    preparation = fitted_table({"a": values}, ["a"], [])
    spread = single.std()
    if spread <= 1e-3 * max(1.0, abs(single.mean())):
        assert np.isfinite(apply(preparation, {"a": values})).all()
    else:
        expected = (single - single.mean()) / spread
        np.testing.assert_allclose(apply(preparation, {"a": values})[:, 0], expected, atol=2e-3)


def test_a_constant_column_becomes_zero_and_not_nan() -> None:
    for value in (0.0, 0.1, 1e-42, -3e30):
        rows = {"a": np.full(7, value)}
        features = apply(fitted_table(rows, ["a"], []), rows)
        assert np.isfinite(features).all()
        assert (features == 0).all()


MILLISECONDS = 1_700_000_000_000 + np.random.default_rng(4).integers(0, 600_000, 200)


@pytest.mark.parametrize(
    ("values", "off"),
    [
        (MILLISECONDS, 1e-6),
        (MILLISECONDS.astype(np.float64) + 0.25, 1e-6),
        (MILLISECONDS * 1_000_000, 1e-6),  # nanoseconds: float64 resolves 256 of them
        (1 + 1e-9 * np.random.default_rng(4).random(200), 1e-5),
        (1e-45 * np.random.default_rng(4).random(200), 1e-6),
    ],
)
def test_numbers_that_float32_cannot_tell_apart_are_standardised_in_float64(values: np.ndarray, off: float) -> None:
    near = np.random.default_rng(5).normal(size=200)
    rows = {"far": values, "near": near}
    table = fitted_table(rows, ["far", "near"], [])
    exact = values - values[0]  # whole numbers are subtracted without any rounding
    wanted = (exact - exact.mean()) / exact.std()
    for preparation, columns in (
        (table, rows),
        (fitted_array([np.stack([values, near], axis=1)]), {"x": np.stack([values, near], axis=1)}),
    ):
        encoded = encode(columns, preparation.spec)[0]
        assert (preparation.spec["dtype"], encoded.dtype) == ("float64", np.float64)
        features = apply(preparation, columns)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features[:, 0], wanted, atol=off)
        np.testing.assert_allclose(features[:, 1], (near - near.mean()) / near.std(), atol=1e-6)
    assert encode({"far": values[:1].tolist(), "near": [0.0]}, table.spec)[0][0, 0] == float(values[0])


@pytest.mark.parametrize(
    "values",
    [
        np.arange(1950, 2020),
        1.7e9 + np.linspace(0, 3e7, 50),
        np.full(50, 0.1),
        np.array([0.1, 0.1 + 1e-16] * 20),
        np.random.default_rng(0).normal(size=50),
        np.random.default_rng(0).normal(1e4, 1, 50),
    ],
)
def test_numbers_that_float32_tells_apart_stay_what_they_were(values: np.ndarray) -> None:
    preparation = fitted_table({"a": values}, ["a"], [])
    assert "dtype" not in preparation.spec
    assert encode({"a": values}, preparation.spec)[0].dtype == np.float32
    single = values.astype(np.float32).astype(np.float64)
    assert preparation.to_dict()["means"] == [float(np.float32(np.sum(single) / len(single)))]


def test_a_gap_beside_large_numbers_is_the_mean() -> None:
    rows = {"t": np.append(MILLISECONDS.astype(np.float64), np.nan)}
    features = apply(fitted_table(rows, ["t"], [], "impute"), rows)
    assert features[-1].tolist() == [0.0, 1.0]
    assert np.unique(features[:-1, 0]).size == np.unique(MILLISECONDS).size


def test_table_features_are_numbers_then_gaps_then_one_hot_categories() -> None:
    preparation, rows = table()
    features = apply(preparation, rows)
    assert preparation.feature_shape == (2 + 1 + 3 + 3,)
    deviation = np.sqrt((20**2 + 10**2 + 30**2) / 3)
    np.testing.assert_allclose(features[:, 0], np.array([-20, -10, 0, 30]) / deviation, rtol=1e-6)
    assert features[:, 1].tolist() == [0, 0, 0, 0]
    assert features[:, 2].tolist() == [0, 0, 1, 0]
    assert features[:, 3:6].tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert features[:, 6:].tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_an_unseen_category_is_all_zeros_and_a_gap_that_training_had_not_is_the_mean() -> None:
    preparation, _ = table()
    features = apply(preparation, {"age": [20.0], "same": [None], "job": ["pilot"], "zone": [3]})  # type: ignore[dict-item]
    assert features[0, 1] == 0
    assert features[0, 2:].tolist() == [0] * 7


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((5,), (5,)), ((6, 7), (1, 6, 7)), ((6, 7, 3), (3, 6, 7)), ((3, 6, 7), (3, 6, 7)), ((4, 4, 4), (4, 4, 4))],
)
def test_images_become_channel_first_and_standardised_per_channel(
    shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    values = np.random.default_rng(0).normal(3, 2, (9, *shape))
    preparation = fitted_array([values[:4], values[4:]])
    features = apply(preparation, {"x": values})
    assert preparation.feature_shape == features.shape[1:] == expected
    moved = np.moveaxis(values, -1, 1) if shape == (6, 7, 3) else values.reshape(9, *expected)
    axes = (0, *range(2, moved.ndim))
    wanted = (moved - moved.mean(axes, keepdims=True)) / moved.std(axes, keepdims=True)
    np.testing.assert_allclose(features, wanted, atol=1e-5)


def test_bytes_stay_bytes_until_they_are_prepared() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 6), dtype=np.uint8)
    preparation = fitted_array([images])
    assert encode({"x": images}, preparation.spec)[0].dtype == np.uint8
    wanted = (images - images.mean()) / images.std()
    np.testing.assert_allclose(apply(preparation, {"x": images})[:, 0], wanted, atol=1e-5)


def some_preparations() -> list[tuple[Preparation, dict[str, np.ndarray]]]:
    generator = np.random.default_rng(3)
    only_numbers = {"a": generator.normal(size=4), "b": generator.normal(size=4)}
    only_words = {"w": np.array(["x", "y", "x", "z"], dtype=object)}
    far = {"t": MILLISECONDS[:4], "b": np.array([1.0, np.nan, 2.0, 3.0])}
    vectors, images = generator.normal(size=(4, 3)), generator.integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    return [
        table(),
        (fitted_table(only_numbers, ["a", "b"], []), only_numbers),
        (fitted_table(far, ["t", "b"], [], "impute"), far),
        (fitted_array([vectors + 1e9]), {"x": vectors + 1e9}),
        (fitted_table(only_words, [], ["w"]), only_words),
        (fitted_array([vectors]), {"x": vectors}),
        (fitted_array([images]), {"x": images}),
    ]


@pytest.mark.parametrize(("preparation", "columns"), some_preparations())
def test_a_preparation_comes_back_from_json_exactly(preparation: Preparation, columns: dict[str, np.ndarray]) -> None:
    again = Preparation(json.loads(json.dumps(preparation.to_dict(), allow_nan=False)))
    assert type(again) is type(preparation)
    assert again.to_dict() == preparation.to_dict()
    assert again.feature_shape == preparation.feature_shape
    assert list(again.state_dict()) == list(preparation.state_dict())
    for name, value in preparation.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    np.testing.assert_array_equal(apply(again, columns), apply(preparation, columns))


@pytest.mark.parametrize(("preparation", "columns"), some_preparations())
def test_a_preparation_exports_with_a_dynamic_batch(preparation: Preparation, columns: dict[str, np.ndarray]) -> None:
    tensors = tuple(torch.from_numpy(values) for values in encode(columns, preparation.spec))
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(preparation, tensors, dynamic_shapes={"encoded": tuple({0: batch} for _ in tensors)})
    for rows in (1, 3):
        part = tuple(values[:rows] for values in tensors)
        (exported,), (eager,) = program.module()(*part).values(), preparation(*part).values()
        assert torch.equal(exported, eager)
