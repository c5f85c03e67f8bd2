"""A data section becomes splits of named tasks: what is read, cut, encoded, and fitted on training rows only."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.study_data import StudyData, load_data
from mtl_search.data.task import Task
from mtl_search.input_kinds.encoding import encode
from mtl_search.recipe import Component
from mtl_search.task_kinds import TASK_KINDS

DIGITS = {"source": {"sklearn": {"name": "digits", "inputs": ["image"]}}}


def load(data: dict[str, Any], tasks: dict[str, dict[str, Any]], seed: int = 0) -> StudyData:
    configs = {name: TaskConfig.model_validate(task) for name, task in tasks.items()}
    return load_data(DataConfig.model_validate(data), configs, seed)


def from_function(function: str, **params: Any) -> dict[str, Any]:
    return {"source": {"python": {"function": f"{__name__}:{function}", "params": params}}}


def labelled(**targets: list[Any]) -> dict[str, Any]:
    """Ten rows of one input in each split, with the same targets."""
    columns = {"x": np.arange(10.0), **targets}
    return {"train": columns, "validation": columns, "test": columns}


def shifted() -> dict[str, Any]:
    train = pd.DataFrame({"a": [0.0, 2.0], "w": ["p", "q"], "y": [1.0, 5.0]})
    test = pd.DataFrame({"a": [100.0, 200.0], "w": ["r", "q"], "y": [1000.0, 3.0]})
    return {"train": train, "validation": test, "test": test}


def targets_of(data: StudyData, task: str) -> tuple[np.ndarray, np.ndarray]:
    part = data.splits["train"]["main"]
    return part.targets[task], part.masks[task]


def test_images_and_classes_of_digits() -> None:
    data = load(DIGITS, {"digit": {"kind": "classification", "target": "target"}})
    assert data.preparation.feature_shape == (1, 8, 8)
    assert data.tasks[0].labels == tuple("0123456789")
    rows = {split: parts["main"].rows for split, parts in data.splits.items()}
    assert rows == {"train": 1257, "validation": 270, "test": 270}
    described = data.describe()
    assert json.loads(json.dumps(described)) == described
    assert sum(described["tasks"]["digit"]["splits"]["test"]["classes"].values()) == 270


def test_preparation_and_tasks_are_fitted_on_training_rows_only() -> None:
    data = load(from_function("shifted"), {"y": {"kind": "regression", "target": "y"}})
    assert data.preparation.to_dict()["means"] == [1.0]
    assert data.preparation.to_dict()["scales"] == [1.0]
    assert data.preparation.spec["categorical"] == {"w": ["p", "q"]}
    assert (data.tasks[0].center, data.tasks[0].scale) == (3.0, 2.0)
    test = data.splits["test"]["main"]
    assert test.targets["y"].tolist() == [(1000 - 3) / 2, 0]
    assert test.encoded[1].tolist() == [[0], [2]]


def test_missing_labels_are_masked_whichever_way_they_are_written() -> None:
    source = from_function(
        "labelled",
        nan=[1.0, None, 3.0, None, 5.0, 6.0, 7.0, 8.0, 9.0, 0.0],
        blank=["a", "", "b", "", "a", "b", "a", "b", "a", "b"],
        stated=[1, -1, 0, -1, 1, 0, 1, 0, 1, 0],
        word=["1", "?", "2", "?", "3", "4", "5", "6", "7", "8"],
    )
    tasks = {
        "nan": {"kind": "regression", "target": "nan"},
        "blank": {"kind": "classification", "target": "blank"},
        "stated": {"kind": "binary", "target": "stated", "missing": -1},
        "word": {"kind": "regression", "target": "word", "missing": "?"},
    }
    data = load(source, tasks)
    for name in tasks:
        targets, mask = targets_of(data, name)
        assert np.flatnonzero(~mask).tolist() == [1, 3], name
        assert targets[[1, 3]].tolist() == [0, 0], name
    assert targets_of(data, "stated")[0].dtype == np.float32
    assert targets_of(data, "blank")[0].dtype == np.int64
    assert data.tasks[0].center == np.mean([1, 3, 5, 6, 7, 8, 9, 0])


def test_binary_labels_are_in_order_unless_the_positive_one_is_stated() -> None:
    source = from_function("labelled", y=["no", "yes"] * 5, n=[1, 2] * 5, b=[False, True] * 5)
    tasks = {
        "plain": {"kind": "binary", "target": "y"},
        "turned": {"kind": "binary", "target": "y", "positive": "no"},
        "number": {"kind": "binary", "target": "n", "positive": 1},
        "truth": {"kind": "binary", "target": "b", "positive": True},
    }
    data = load(source, tasks)
    assert [task.labels for task in data.tasks] == [("no", "yes"), ("yes", "no"), ("2", "1"), ("False", "True")]
    assert targets_of(data, "plain")[0].tolist() == [0, 1] * 5
    assert targets_of(data, "turned")[0].tolist() == [1, 0] * 5
    assert targets_of(data, "truth")[0].tolist() == [0, 1] * 5


def test_a_stated_positive_label_is_told_from_all_others() -> None:
    source = from_function("labelled", y=["a", "b", "c", "", "a", "b", "c", "a", "b", "c"])
    data = load(source, {"t": {"kind": "binary", "target": "y", "positive": "b"}})
    assert data.tasks[0].labels == ("not b", "b")
    assert targets_of(data, "t")[0].tolist() == [0, 1, 0, 0, 0, 1, 0, 0, 1, 0]
    assert targets_of(data, "t")[1].tolist() == [True] * 3 + [False] + [True] * 6


def test_multilabel_takes_a_list_of_columns_or_one_array() -> None:
    values = [[0, 1], [1, None], [None, 0], *([[1, 1]] * 7)]
    source = from_function("labelled", y=values, p=[row[0] for row in values], q=[row[1] for row in values])
    tasks = {
        "array": {"kind": "multilabel", "target": "y"},
        "list": {"kind": "multilabel", "target": ["p", "q"]},
        "parts": {"kind": "multilabel", "target": ["y:0", "y:1"]},
        "one": {"kind": "binary", "target": "y:1"},
    }
    data = load(source, tasks)
    assert [task.labels for task in data.tasks] == [("y:0", "y:1"), ("p", "q"), ("y:0", "y:1"), ("0", "1")]
    assert [task.outputs for task in data.tasks] == [2, 2, 2, 1]
    for name in ("array", "list", "parts"):
        targets, mask = targets_of(data, name)
        assert targets.dtype == np.float32
        assert targets[:4].tolist() == [[0, 1], [1, 0], [0, 0], [1, 1]]
        assert mask[:4].tolist() == [[True, True], [True, False], [False, True], [True, True]]
    assert targets_of(data, "one")[1][:4].tolist() == [True, False, True, True]
    assert data.preparation.feature_shape == (1,)


def test_two_data_sets_of_different_sizes_share_one_preparation(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name, rows in (("mat", 40), ("por", 65)):
        frame = pd.DataFrame({"age": generator.integers(15, 20, rows), "job": generator.choice(["a", "b"], rows)})
        frame["job"] = frame["job"].where(frame.index > 0, name)  # a category that one data set has alone
        frame["G1"], frame["G2"] = generator.normal(size=(2, rows))
        columns = ["age", "job", "G1", "G2"] if name == "mat" else ["G2", "job", "age", "G1"]
        frame[columns].to_csv(tmp_path / f"{name}.csv", index=False)
    sources = {name: {"table": {"path": str(tmp_path / f"{name}.csv")}} for name in ("mat", "por")}
    tasks = {
        "mat_G1": {"kind": "regression", "target": "G1", "data": "mat"},
        "por_G2": {"kind": "regression", "target": "G2", "data": "por", "loss": "huber"},
    }
    data = load({"sources": sources, "split": {"validation": 0.2, "test": 0.2}}, tasks)
    assert data.datasets == ("mat", "por")
    assert {name: part.rows for name, part in data.splits["train"].items()} == {"mat": 24, "por": 39}
    assert data.preparation.spec["numeric"] == ["age"]
    assert set(data.preparation.spec["categorical"]["job"]) >= {"a", "b"}
    ages = np.concatenate([data.splits["train"][name].encoded[0][:, 0] for name in data.datasets])
    assert float(data.preparation.to_dict()["means"][0]) == pytest.approx(ages.mean(), rel=1e-6)
    assert list(data.splits["train"]["por"].targets) == ["por_G2"]
    assert [task.loss for task in data.tasks] == ["mse", "huber"]


def test_given_splits_are_kept_and_the_validation_rows_come_from_training(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (50, 6, 6), dtype=np.uint8)
    y = np.stack([np.arange(50) % 2, np.arange(50) % 5], axis=1)
    np.savez(tmp_path / "d.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    tasks = {name: {"kind": "classification", "target": f"y:{i}"} for i, name in enumerate(("left", "right"))}
    data = load({"source": {"arrays": {"path": str(tmp_path / "d.npz")}}}, tasks)
    assert {split: parts["main"].rows for split, parts in data.splits.items()} == {
        "train": 34,
        "validation": 6,
        "test": 10,
    }
    np.testing.assert_array_equal(data.splits["test"]["main"].encoded[0], x[40:])
    assert data.splits["test"]["main"].targets["right"].tolist() == y[40:, 1].tolist()


def test_the_sample_is_raw_rows_in_json_that_encode_as_training_rows_did(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": [1.5, None, 3.0, 4.0] * 5, "w": ["a", None, "b", "c"] * 5, "y": np.arange(20.0)})
    frame.to_parquet(tmp_path / "t.parquet")
    source = {"source": {"table": {"path": str(tmp_path / "t.parquet"), "missing": "impute"}}}
    data = load(source, {"y": {"kind": "regression", "target": "y"}})
    sample = json.loads(json.dumps(data.sample, allow_nan=False))
    assert list(sample) == ["n", "w"]
    for values, trained in zip(
        encode(sample, data.preparation.spec), data.splits["train"]["main"].encoded, strict=True
    ):
        np.testing.assert_array_equal(values, trained[:5])


def test_the_key_follows_content_alone() -> None:
    tasks = {"digit": {"kind": "classification", "target": "target"}}
    key = load(DIGITS, tasks).key
    assert load(DIGITS, tasks).key == key
    assert load(DIGITS, tasks, seed=1).key != key
    assert load(DIGITS, {"other": tasks["digit"]}).key != key
    assert load({"source": {"sklearn": {"name": "digits"}}}, tasks).key != key


def test_study_data_survives_pickling() -> None:
    data = load(DIGITS, {"digit": {"kind": "classification", "target": "target"}})
    again = pickle.loads(pickle.dumps(data))  # noqa: S301 - what was pickled a line above
    assert again.key == data.key
    images = torch.from_numpy(data.splits["test"]["main"].encoded[0])
    assert torch.equal(again.preparation(images)["array"], data.preparation(images)["array"])


@pytest.mark.parametrize("target", ["y", ("p", "q")])
def test_a_task_comes_back_from_json(target: str | tuple[str, ...]) -> None:
    task = Task("t", "multilabel", "main", ("p", "q"), 0.0, 1.0, "bce", Component("macro_f1", {"a": 1}), target)
    assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task
    assert all(TASK_KINDS[kind].losses for kind in ("classification", "binary", "regression", "multilabel"))
