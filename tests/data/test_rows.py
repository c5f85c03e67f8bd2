"""Rows handed over in Python: every form gives the same columns, and what has no columns is refused in words."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from mtl_search.data.sources.rows import Rows
from mtl_search.errors import DataError

X = torch.arange(12.0).reshape(6, 2)
Y = torch.tensor([0, 1, 0, 1, 0, 1])


class Items(Dataset[Any]):
    """A map-style data set of whatever a function makes of a row's number."""

    def __init__(self, item: Any, rows: int = 6) -> None:
        self._item, self._rows = item, rows

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, number: int) -> Any:
        return self._item(number)


def same_rows(source: Rows, rows: int = 6) -> None:
    columns = source.load()["train"]
    assert list(columns) == ["x", "y"]
    np.testing.assert_array_equal(columns["x"], X[:rows].numpy())
    np.testing.assert_array_equal(columns["y"], Y[:rows].numpy())
    assert columns["y"].dtype == np.int64


@pytest.mark.parametrize(
    "rows",
    [{"x": X, "y": Y}, {"x": X.numpy(), "y": Y.numpy()}, Items(lambda n: {"x": X[n], "y": int(Y[n])})],
    ids=["tensors", "arrays", "data set of mappings"],
)
def test_rows_with_names_are_columns(rows: Any) -> None:
    same_rows(Rows(rows))


@pytest.mark.parametrize(
    "rows",
    [(X, Y), TensorDataset(X, Y), Items(lambda n: (X[n].numpy(), Y[n]))],
    ids=["tuple of tensors", "tensor data set", "data set of tuples"],
)
def test_rows_without_names_get_them(rows: Any) -> None:
    same_rows(Rows(rows, columns=["x", "y"]))


def test_part_of_a_data_set_is_a_data_set() -> None:
    same_rows(Rows(Subset(TensorDataset(X, Y), range(4)), columns=["x", "y"]), 4)


def test_frames_keep_texts_gaps_and_given_splits() -> None:
    frame = pd.DataFrame({"age": [1.0, None], "job": ["a", None]})
    splits = Rows(frame, test=frame.head(1), missing="impute").load()
    assert splits.keys() == {"train", "test"}
    assert np.isnan(splits["train"]["age"][1])
    assert splits["train"]["job"].tolist()[0] == "a"


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        (X, {}, "train: must be a data frame, a mapping of columns, or a torch data set with a length"),
        (TensorDataset(X, Y), {}, "train: must come with columns, a name for each of the 2 parts of a row, got none"),
        ((X, Y), {"columns": ["x"]}, "for each of the 2 parts of a row, got x"),
        ({"x": X}, {"columns": ["x"]}, "columns: has no effect: the rows name their columns themselves"),
        (Items(lambda n: X[n]), {}, "train: must give items that are mappings or tuples"),
        (Items(lambda n: {"x": object()}), {}, "must give tensors, arrays, numbers or text in 'x', got object"),
        (Items(None, rows=0), {}, "train: must hold at least one row"),
        ({"x": 3}, {}, "column 'x' must have a row axis"),
    ],
    ids=["one array", "no names", "too few names", "idle names", "bare items", "odd items", "empty", "one value"],
)
def test_other_forms_are_refused_in_words(rows: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        Rows(rows, **options)
