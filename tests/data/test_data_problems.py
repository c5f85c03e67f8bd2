"""Bad data: every mistake is told with key path, rule and value, and all of them at once."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.data.study_data import load_data
from mtl_search.errors import DataError

ROWS = 40
GOOD: dict[str, Any] = {
    "a": np.arange(ROWS, dtype=float),
    "w": ["p", "q"] * (ROWS // 2),
    "c": ["x", "y"] * (ROWS // 2),
    "r": np.arange(ROWS, dtype=float),
}
CLASS = {"kind": "classification", "target": "c"}
held: dict[str, dict[str, Any]] = {}


def give(name: str) -> Any:
    return held[name]


def problems(
    data: dict[str, Any] | None = None, tasks: dict[str, Any] | None = None, **columns: Any
) -> dict[str, list[str]]:
    """Key path to the problems found there, for one python source of changed columns or for a data section."""
    held["changed"] = {"train": {**GOOD, **columns}}
    data = data or {"source": {"python": {"function": f"{__name__}:give", "params": {"name": "changed"}}}}
    configs = {name: TaskConfig.model_validate(task) for name, task in (tasks or {"t": CLASS}).items()}
    with pytest.raises(DataError) as caught:
        load_data(DataConfig.model_validate(data), configs, 0)
    found: dict[str, list[str]] = {}
    for problem in caught.value.problems:
        found.setdefault(problem.place, []).append(str(problem))
    return found


def source(splits: dict[str, Any], **params: Any) -> dict[str, Any]:
    held["given"] = splits
    return {"source": {"python": {"function": f"{__name__}:give", "params": {"name": "given"}, **params}}}


def test_good_data_has_no_problems() -> None:
    held["good"] = {"train": GOOD}
    data = {"source": {"python": {"function": f"{__name__}:give", "params": {"name": "good"}}}}
    load_data(DataConfig.model_validate(data), {"t": TaskConfig.model_validate(CLASS)}, 0)


def changed(name: str, row: int, value: object) -> dict[str, Any]:
    values = list(GOOD[name])
    values[row] = value
    return {name: values}


INPUTS = "data.source.python.inputs"


@pytest.mark.parametrize(
    ("columns", "task", "place", "message"),
    [
        (changed("a", 3, None), CLASS, INPUTS, "missing: impute.*column 'a', split train.*in row 3 .*got nan"),
        (changed("a", 4, float("inf")), CLASS, INPUTS, "finite numbers .*column 'a'.*in row 4 .*got inf"),
        (changed("a", 4, 1e300), CLASS, INPUTS, "finite numbers .*column 'a'.*in row 4 "),
        (changed("a", 5, "five"), CLASS, INPUTS, "listed in `categorical` .*column 'a'.*in row 5 .*got 'five'"),
        ({"a": [str(i) for i in range(ROWS)]}, CLASS, INPUTS, "must hold numbers in every row.*got '0'"),
        ({"a": pd.date_range("2020", periods=ROWS)}, CLASS, INPUTS, "must hold numbers or text .*got 'datetime64"),
        ({"a": np.ones((ROWS, 2, 2))}, CLASS, INPUTS, "or columns of single values and lists of numbers, got 'a'"),
        ({"a": [1.0] * 7}, CLASS, "data.source.python", "equally many rows .split train., got {.*'a': 7"),
        ({}, {**CLASS, "target": "digti"}, "tasks.t.target", "must name a column of data set 'main'.*'digti'.*a, w, c"),
        ({}, {**CLASS, "target": "c:0"}, "tasks.t.target", "must name a column .*'c:0'"),
        ({"c": np.ones((ROWS, 2))}, CLASS, "tasks.t.target", "single values; 'c:0' is its first column"),
        ({"c": ["x"] * ROWS}, CLASS, "tasks.t.target", r"at least 2 labels in the training rows, got \['x'\]"),
        ({"c": [None] * ROWS}, CLASS, "tasks.t.target", "must have labels in train"),
        ({"c": [*"xyz"] * 13 + ["x"]}, {**CLASS, "kind": "binary"}, "tasks.t.target", r"exactly 2 labels.*'z'\]"),
        ({}, {**CLASS, "kind": "binary", "positive": "z"}, "tasks.t.positive", "must be a label .*'z' .choices: x, y."),
        ({}, {"kind": "regression", "target": "c"}, "tasks.t.target", "must hold numbers, in row 0 .*got 'x'"),
        (changed("r", 2, float("inf")), {"kind": "regression", "target": "r"}, "tasks.t.target", "finite .*in row 2 "),
        ({"r": [1.0] * ROWS}, {"kind": "regression", "target": "r"}, "tasks.t.target", "at least 2 different values"),
        ({}, {"kind": "multilabel", "target": ["r"]}, "tasks.t.target", "must hold 0 or 1.* in row 2 .*got 2.0"),
        (
            {},
            {**CLASS, "loss": "mse"},
            "tasks.t.loss",
            "a loss for classification, got 'mse' .choices: cross_entropy, focal.",
        ),
        ({}, {**CLASS, "data": "mian"}, "tasks.t.data", "must name a data set, got 'mian' .choices: main."),
        ({"w": [f"id-{i}" for i in range(1001)]}, CLASS, INPUTS, "at most 1000 categories .*'w'.*got 1001"),
    ],
)
def test_a_bad_value_is_told_with_place_rule_and_value(
    columns: dict[str, Any], task: dict[str, Any], place: str, message: str
) -> None:
    found = problems(tasks={"t": task}, **columns)
    assert any(re.search(message, problem) for problem in found.get(place, [])), found


@pytest.mark.parametrize(
    ("params", "place", "message"),
    [
        ({"inputs": ["a", "c"]}, INPUTS, "must not list a task's target, got 'c'"),
        ({"inputs": ["a", "b"]}, INPUTS, r"must name columns of data set 'main' .*'b' \(choices: a, w, c, r\)"),
        ({"inputs": []}, INPUTS, "at least one column that no task targets"),
        ({"inputs": ["a"], "categorical": ["w"]}, "data.source.python.categorical", "must name input columns, got 'w'"),
    ],
)
def test_a_wrong_choice_of_inputs_is_told(params: dict[str, Any], place: str, message: str) -> None:
    found = problems(source({"train": GOOD}, **params))
    assert any(re.search(message, problem) for problem in found.get(place, [])), found


def test_a_target_of_another_task_is_no_input_either() -> None:
    tasks = {"t": CLASS, "u": {"kind": "regression", "target": "r"}}
    assert (
        "must not list a task's target, got 'r'"
        in problems(source({"train": GOOD}, inputs=["a", "r"]), tasks)[INPUTS][0]
    )


def test_given_splits_are_checked_each() -> None:
    few = {"a": [1.0, np.nan], "w": ["p", "q"], "c": ["x", "z"], "r": [1.0, 2.0]}
    none = {"a": [1.0, 2.0], "w": ["p", "q"], "r": [1.0, 2.0]}
    empty = {name: values[:0] for name, values in GOOD.items()}
    found = problems(source({"train": GOOD, "validation": few, "test": {**few, "c": [None, ""]}}))
    assert any("column 'a', split validation" in problem for problem in found[INPUTS])
    assert any("column 'a', split test" in problem for problem in found[INPUTS])
    assert "tasks.t.target: must not hold labels in validation that no training row has, got ['z']" in "\n".join(
        found["tasks.t.target"]
    )
    assert "tasks.t.target: must have labels in test" in found["tasks.t.target"]
    assert "(split test), got 'c'" in problems(source({"train": GOOD, "test": none}))["tasks.t.target"][0]
    assert "at least one row (split test)" in problems(source({"train": GOOD, "test": empty}))["data.source.python"][0]
    del none["w"]
    assert any("(split test), got 'w'" in text for text in problems(source({"train": GOOD, "test": none}))[INPUTS])


def test_a_source_without_rows_or_training_split_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,c\n")
    found = problems({"source": {"table": {"path": str(tmp_path / "t.csv")}}})
    assert "must give at least one row (split train), got 0" in found["data.source.table"][0]
    for task in ({"kind": "regression", "target": "a"}, {"kind": "multilabel", "target": ["a"]}):
        found = problems({"source": {"table": {"path": str(tmp_path / "t.csv")}}}, {"t": task})
        assert list(found) == ["data.source.table"]
    assert "must give the split 'train'" in problems(source({"test": GOOD}))["data.source.python"][0]
    found = problems(source({"train": {name: values[:2] for name, values in GOOD.items()}}))
    assert "data.split: must leave at least one row for test" in found["data.split"]


def test_images_with_gaps_or_of_other_shapes_are_told() -> None:
    images = np.ones((ROWS, 5, 5))
    images[7, 1, 1] = np.nan
    data = {"train": {"x": images, "c": GOOD["c"]}, "test": {"x": np.ones((2, 5, 6)), "c": ["x", "y"]}}
    found = problems(source(data))[INPUTS]
    assert any(re.search(r"finite numbers \(column 'x', split train\), in row 7 .*got nan", text) for text in found)
    assert any("rows of one shape, (5, 5), (column 'x', split test), got (5, 6)" in text for text in found)


def test_data_sets_must_have_the_same_inputs() -> None:
    held["one"], held["two"] = {"train": GOOD}, {"train": {**GOOD, "extra": GOOD["a"]}}
    sources = {name: {"python": {"function": f"{__name__}:give", "params": {"name": name}}} for name in ("one", "two")}
    tasks = {"t": {**CLASS, "data": "one"}, "u": {**CLASS, "data": "two"}}
    found = problems({"sources": sources}, tasks)
    assert list(found) == ["data.sources.two.python.inputs"]
    assert "must be the input columns of data set 'one'" in found["data.sources.two.python.inputs"][0]
    assert "'extra'" in found["data.sources.two.python.inputs"][0]
    assert (
        "must name the task's data set (choices: one, two)"
        in problems({"sources": sources}, {"t": CLASS})["tasks.t.data"][0]
    )
    idle = problems({"sources": sources}, {"t": tasks["t"]})
    assert "no task uses this data set" in idle["data.sources.two"][0]


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    pd.DataFrame({**GOOD, "a": [None, *range(ROWS - 1)]}).to_csv(tmp_path / "good.csv", index=False)
    (tmp_path / "bad.parquet").write_bytes(b"nothing like it")
    sources = {
        "one": {"table": {"path": str(tmp_path / "good.csv"), "inputs": ["a", "nope"]}},
        "two": {"table": {"path": str(tmp_path / "none.csv")}},
        "three": {"table": {"train": str(tmp_path / "bad.parquet"), "test": str(tmp_path / "bad.csv")}},
    }
    tasks = {
        "t": {**CLASS, "data": "one", "target": "cc"},
        "u": {"kind": "regression", "target": "w", "data": "one"},
        "v": {**CLASS, "data": "two"},
        "x": {**CLASS, "data": "three", "loss": "mse"},
        "y": {**CLASS, "data": "four"},
    }
    assert set(problems({"sources": sources}, tasks)) == {
        "data.sources.one.table.inputs",
        "data.sources.two.table.path",
        "data.sources.three.table.train",
        "data.sources.three.table.test",
        "tasks.t.target",
        "tasks.u.target",
        "tasks.x.loss",
        "tasks.y.data",
    }


def test_a_fraction_for_a_given_split_has_no_effect() -> None:
    data = source({"train": GOOD, "test": GOOD})
    assert (
        "every source gives this split itself, got 0.3"
        in problems({**data, "split": {"test": 0.3}})["data.split.test"][0]
    )
