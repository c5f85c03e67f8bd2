"""Sources: every kind of file gives the columns that were written, and what cannot be read is said plainly."""

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
import torch

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.sources import SOURCES
from mtl_search.data.sources.base import Columns
from mtl_search.data.study_data import load_data
from mtl_search.errors import DataError
from mtl_search.recipe import Component
from mtl_search.variants.building import build

FRAME = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, None, 2.0], "w": ["x", None, "NA"], "t": ["y", "n", "y"]})


def load(kind: str, **params: Any) -> dict[str, Columns]:
    return build(SOURCES, Component(kind, params)).load()


def check(columns: Columns) -> None:
    assert columns["a"].tolist() == [1, 2, 3]
    assert columns["a"].dtype.kind == "i"
    np.testing.assert_array_equal(columns["b"], [0.5, np.nan, 2.0])
    assert columns["w"].dtype == object
    assert [columns["w"][0], columns["w"][2]] == ["x", "NA"]
    assert pd.isna(columns["w"][1])


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("t.csv", lambda path: FRAME.to_csv(path, index=False)),
        ("t.csv.gz", lambda path: FRAME.to_csv(path, index=False)),
        ("t.tsv", lambda path: FRAME.to_csv(path, index=False, sep="\t")),
        ("t.parquet", lambda path: FRAME.to_parquet(path)),
    ],
)
def test_a_table_reads_the_same_from_every_format_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[str], None]
) -> None:
    write(str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    check(load("table", path=str(tmp_path / name))["train"])
    check(load("table", path=name)["train"])
    with fsspec.open(f"memory://tables/{name}", "wb") as file:
        file.write((tmp_path / name).read_bytes())
    splits = load("table", train=f"memory://tables/{name}", test=str(tmp_path / name))
    assert list(splits) == ["train", "test"]
    for columns in splits.values():
        check(columns)


def test_words_for_missing_numbers_leave_a_column_of_numbers(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,c\n1,NA,NA\nNaN,2.5,x\n3,,1\n")
    columns = load("table", path=str(tmp_path / "t.csv"))["train"]
    np.testing.assert_array_equal(columns["a"], [1, np.nan, 3])
    np.testing.assert_array_equal(columns["b"], [np.nan, 2.5, np.nan])
    assert columns["c"].tolist() == ["NA", "x", "1"]


def test_a_parquet_column_of_lists_is_an_array_and_nullable_numbers_are_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [[1.0, 2.0], [3.0, 4.0]], "n": pd.array([1, None], "Int64"), "f": [True, False]})
    frame["c"] = pd.Categorical(["u", "v"])
    frame.to_parquet(tmp_path / "t.parquet")
    columns = load("table", path=str(tmp_path / "t.parquet"))["train"]
    assert columns["x"].tolist() == [[1, 2], [3, 4]]
    np.testing.assert_array_equal(columns["n"], [1, np.nan])
    assert columns["f"].dtype == bool
    assert columns["c"].tolist() == ["u", "v"]


def test_npz_arrays_are_columns_of_given_splits_or_of_one(tmp_path: Path) -> None:
    x, y = np.zeros((3, 2, 2), dtype=np.uint8), np.ones((3, 2))
    np.savez(tmp_path / "given.npz", x_train=x, y_train=y, x_test=x[:1], y_test=y[:1], names=np.array(["p", "q"]))
    splits = load("arrays", path=str(tmp_path / "given.npz"))
    assert {split: list(columns) for split, columns in splits.items()} == {"train": ["x", "y"], "test": ["x", "y"]}
    np.savez_compressed(tmp_path / "plain.npz", x=x, y=y, version=np.array(3), is_test=np.zeros(3))
    with fsspec.open("memory://plain.npz", "wb") as file:
        file.write((tmp_path / "plain.npz").read_bytes())
    (columns,) = load("arrays", path="memory://plain.npz").values()
    assert list(columns) == ["x", "y", "is_test"]
    assert columns["x"].dtype == np.uint8


def arrays(rows: int) -> dict[str, np.ndarray]:
    return {"x": np.arange(rows * 4.0).reshape(rows, 2, 2), "y": np.arange(rows)}


def test_npz_rows_are_split_by_an_array_that_names_splits(tmp_path: Path) -> None:
    part = np.array(["train", "test", "validation", "train", "train"])
    np.savez(tmp_path / "a.npz", **arrays(5), part=part, names=np.array(["p", "q"]))
    splits = load("arrays", path=str(tmp_path / "a.npz"), split_by="part")
    assert {split: columns["y"].tolist() for split, columns in splits.items()} == {
        "train": [0, 3, 4],
        "validation": [2],
        "test": [1],
    }
    assert splits["test"]["x"].tolist() == [[[4, 5], [6, 7]]]
    assert all("part" not in columns for columns in splits.values())
    for wrong, rule in (
        ({"split_by": "parts"}, r"split_by: must name columns of the table .*'parts' \(choices: x, y, part, names\)"),
        ({"split_by": "names"}, "split_by: must name a column of splits' names, got 'p'"),
        ({"split_by": "x"}, "split_by: must name columns of single values"),
        ({"split_by": "part", "path": None, "train": "a.npz"}, "split_by: has no effect where the splits have their"),
    ):
        with pytest.raises(DataError, match=rule):
            load("arrays", **{"path": str(tmp_path / "a.npz"), **wrong})


def test_npz_splits_may_have_their_own_files(tmp_path: Path) -> None:
    for split, rows in (("train", 6), ("validation", 2), ("test", 3)):
        np.savez(tmp_path / f"{split}.npz", **arrays(rows))
    files = {split: str(tmp_path / f"{split}.npz") for split in ("train", "validation", "test")}
    splits = load("arrays", **files)
    assert {split: len(columns["x"]) for split, columns in splits.items()} == {"train": 6, "validation": 2, "test": 3}
    assert list(load("arrays", train=files["train"], test=files["test"])) == ["train", "test"]
    task = {"y": TaskConfig.model_validate({"kind": "regression", "target": "y"})}
    data = load_data(DataConfig.model_validate({"source": {"arrays": files}}), task, 0)
    assert data.splits["test"]["main"].rows == 3
    for wrong, rule in (
        ({}, "path: must be given, or else the splits' own files"),
        ({"path": "a.npz", "test": "b.npz"}, "path: must be given, or else the splits' own files"),
        (
            {"train": files["train"], "test": "none.npz"},
            r"test: must be a readable .npz file \(there is no such file\)",
        ),
    ):
        with pytest.raises(DataError, match=rule):
            load("arrays", **wrong)


def test_sklearn_sets_have_named_columns_and_class_names() -> None:
    iris = load("sklearn", name="iris")["train"]
    assert set(iris["target"]) == {"setosa", "versicolor", "virginica"}
    assert "petal length (cm)" in iris
    assert "target" in load("sklearn", name="diabetes")["train"]
    assert "Chins" in load("sklearn", name="linnerud")["train"]
    assert "image" not in load("sklearn", name="digits")["train"]
    assert load("sklearn", name="digits", inputs=["image"])["train"]["image"].shape == (1797, 8, 8)


def made(rows: int = 2) -> dict[str, object]:
    return {"train": {"x": torch.zeros(rows, 3), "w": ["p", "q"][:rows], "n": [1, None][:rows]}, "test": FRAME}


def broken() -> None:
    raise RuntimeError("no such luck")


def odd() -> dict[str, object]:
    return {"train": {"x": 3}, "dev": {"x": [1]}, "test": [1]}


def test_a_function_may_give_tensors_lists_and_frames() -> None:
    splits = load("python", function=f"{__name__}:made", params={"rows": 2})
    assert splits["train"]["x"].shape == (2, 3)
    assert splits["train"]["w"].tolist() == ["p", "q"]
    np.testing.assert_array_equal(splits["train"]["n"], [1, np.nan])
    check(splits["test"])


def test_what_a_function_does_wrong_is_told() -> None:
    for function, message in {
        f"{__name__}:broken": "function: must not raise .RuntimeError: no such luck.",
        f"{__name__}:FRAME": "function: must name a function",
        f"{__name__}:nothing": "function: must name something in module",
        "no_such_module:f": "function: must name a module that can be imported",
        "builtins:list": "function: must return a mapping of split names, got 'list'",
    }.items():
        with pytest.raises(DataError, match=message):
            load("python", function=function)
    with pytest.raises(DataError) as caught:
        load("python", function=f"{__name__}:odd")
    text = str(caught.value)
    assert "column 'x' must have a row axis, got the single value 3 (split train)" in text
    assert "must give splits of known names, got 'dev' (choices: train, validation, test)" in text
    assert "must be a mapping of columns or a data frame, got list (split test)" in text


def test_files_that_cannot_be_read_are_named_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 this is no parquet file PAR1")
    (tmp_path / "bad.csv.gz").write_bytes(b"not gzip")
    whole = gzip.compress(b"a,b\n1,2\n" * 1000)
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError) as caught:
        load("table", train=str(tmp_path / "bad.parquet"), validation="none.csv", test=str(tmp_path / "bad.csv.gz"))
    assert [problem.place for problem in caught.value.problems] == ["train", "validation", "test"]
    assert all("must be a readable file" in problem.rule for problem in caught.value.problems)
    assert (
        str(caught.value.problems[1]) == "validation: must be a readable file (there is no such file), got 'none.csv'"
    )
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1,2,3,4\n")
    (tmp_path / "wide.csv").write_text("a,b\n1,2,3\n4,5,6\n")
    (tmp_path / "latin.csv").write_bytes("a,b\n1,é\n".encode("latin-1"))
    for name in ("cut.csv.gz", "empty.csv", "ragged.csv", "latin.csv", "wide.csv"):
        with pytest.raises(DataError, match=f"path: must .*{name}"):
            load("table", path=str(tmp_path / name))
    with pytest.raises(DataError, match=r"path: must be a readable file .*'odd://x\.csv'"):
        load("table", path="odd://x.csv")


def test_a_table_wants_one_path_or_the_splits_own() -> None:
    for params in ({}, {"path": "a.csv", "test": "b.csv"}, {"test": "b.csv"}):
        with pytest.raises(DataError, match="path: must be given, or else the splits' own files"):
            load("table", **params)
    with pytest.raises(DataError, match=r"path: must end as a known format does, got 'a.xlsx' \(choices: .csv,"):
        load("table", path="a.xlsx")
    for idle in ({"separator": ";"}, {"decimal": ","}, {"thousands": "'"}):
        with pytest.raises(DataError, match=f"{next(iter(idle))}: has no effect on a Parquet file"):
            load("table", path="a.parquet", **idle)
    with pytest.raises(DataError, match="thousands: must not be what stands before the decimals"):
        load("table", path="a.csv", decimal=",", thousands=",")


def test_an_npz_file_runs_no_code_and_must_hold_named_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", x=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps({"x": 1}))
    np.save(tmp_path / "one.npy", np.zeros(3))
    for name in ("objects.npz", "pickle.npz", "one.npy", "none.npz"):
        with pytest.raises(DataError, match="path: must be a") as caught:
            load("arrays", path=str(tmp_path / name))
        assert str(caught.value).count(name) == 1


def test_excluded_columns_are_no_inputs(tmp_path: Path) -> None:
    rows = pd.DataFrame({"a": range(40), "leak": range(40), "y": [0, 1] * 20})
    rows.to_csv(tmp_path / "t.csv", index=False)
    table = {"path": str(tmp_path / "t.csv"), "exclude": ["leak"]}
    tasks = {"y": TaskConfig.model_validate({"kind": "binary", "target": "y"})}
    data = load_data(DataConfig.model_validate({"source": {"table": table}}), tasks, 0)
    assert list(data.sample) == ["a"]
    for wrong, rule in (
        ({"exclude": ["lake"]}, r"table\.exclude: must name columns .*'lake'"),
        ({"inputs": ["a"]}, r"table\.exclude: has no effect beside 'inputs'"),
    ):
        with pytest.raises(DataError, match=rule):
            load_data(DataConfig.model_validate({"source": {"table": {**table, **wrong}}}), tasks, 0)
