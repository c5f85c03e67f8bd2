"""Many tasks in a few lines: columns that stand for tasks, and keys that all tasks take."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_search.api.from_python import from_python
from mtl_search.api.single_recipe import load_one_recipe
from mtl_search.cli import main
from mtl_search.config.fields import is_name
from mtl_search.config.task_locations import TaskLocations
from mtl_search.data.column_patterns import task_name
from mtl_search.errors import ConfigError, DataError, Problem, StudyError
from mtl_search.extension.request import read_request
from mtl_search.recipe import Component
from mtl_search.study_store.folder import StudyFolder
from mtl_search.validation.prepare import prepare
from mtl_search.validation.study_file import LoadedStudy, load_study
from mtl_search.variants.python_objects import use_objects

ROWS = 60
ASSAYS = ["assay_b", "assay_a", "assay 3/x"]
"""In the file's order, which is no alphabet's; the last is no name that a task may have."""
NAMES = ["assay_b", "assay_a", "assay_3_x"]
BINARY = {"kind": "binary", "metric": "auroc"}


def frame() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    rows = pd.DataFrame(draw.normal(size=(ROWS, 3)).round(3), columns=["width", "length", "dose"])
    labels = (draw.random((ROWS, 3)) > 0.5).astype(int)
    return pd.concat([rows, pd.DataFrame(labels, columns=ASSAYS)], axis=1)


def written(target: str, **more: Any) -> dict[str, Any]:
    return {**BINARY, "target": target, **more}


NAMED = {name: written(column) for name, column in zip(NAMES, ASSAYS, strict=True)}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = frame()
    rows.to_csv("rows.csv", index=False)
    rows.to_parquet("rows.parquet")
    arrays = {"x": rows[["width", "length"]].to_numpy(), "y": rows[ASSAYS].to_numpy(), "dose": rows["dose"].to_numpy()}
    np.savez("rows.npz", **arrays, titles=np.array(["first", "second one", "third"]))
    cut = {f"{name}_{split}": values for name, values in arrays.items() for split in ("train", "test")}
    np.savez("cut.npz", **cut)


def study(tasks: Any, source: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "name": "assays",
        "data": {"source": source or {"table": {"path": "rows.csv", "exclude": ["dose"]}}},
        "tasks": tasks,
        "backbone": {"mlp": {"width": 8, "depth": 2}},
        "space": {"weighting": {"fixed": {"log_ratio": {"float": [-1, 1]}}}, "joint": {"epochs": 2, "batch_size": 16}},
        "search": {"trials": 2},
        **more,
    }


def told(*arguments: Any, **more: Any) -> list[str]:
    with pytest.raises((ConfigError, DataError)) as caught:
        prepare(load_study(study(*arguments, **more)))
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "data",
    [
        {"source": {"table": {"path": "rows.csv", "exclude": ["dose"]}}},
        {"source": {"table": {"path": "rows.parquet", "exclude": ["dose"]}}},
        {"stream": True, "source": {"table": {"path": "rows.parquet", "exclude": ["dose"]}}},
        {"sources": {"one": {"table": {"path": "rows.csv", "inputs": ["width", "length"]}}}},
    ],
    ids=["csv", "parquet", "streamed", "named"],
)
def test_columns_stand_for_a_task_each_in_the_order_of_the_file(data: dict[str, Any]) -> None:
    short, long = (load_study(study(tasks, data=data)) for tasks in ({"columns": "assay*", **BINARY}, NAMED))
    assert list(short.config.tasks) == NAMES
    assert short.config == long.config
    assert list(short.space.domains) == [f"weighting.fixed.log_ratio.{name}" for name in NAMES[1:]]
    assert prepare(short).data.key == prepare(long).data.key


def test_rows_from_python_and_a_function_have_columns_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {"columns": "assay*", **BINARY}
    for data in (frame().drop(columns="dose"), {"train": frame().drop(columns="dose")}):
        handed = from_python({**study(tasks), "data": data})
        with use_objects(handed.objects):
            assert load_study(handed.plain).config.tasks == load_study(study(NAMED)).config.tasks
    (tmp_path / "rows_module.py").write_text(
        "import pandas as pd\ndef rows():\n    return {'train': pd.read_csv('rows.csv').drop(columns='dose')}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = {"python": {"function": "rows_module:rows"}}
    assert list(load_study(study(tasks, own)).config.tasks) == NAMES


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ({"columns": "y"}, ["y_0", "y_1", "y_2"]),
        ({"columns": "y:[12]"}, ["y_1", "y_2"]),
        ({"columns": ["y:2", "y:0"]}, ["y_2", "y_0"]),
        ({"columns": "y", "names": "titles"}, ["first", "second_one", "third"]),
        ({"columns": "y", "names": ["a", "b", "c"]}, ["a", "b", "c"]),
    ],
)
def test_an_array_of_two_axes_stands_for_a_task_for_each_of_its_columns(
    pattern: dict[str, Any], names: list[str]
) -> None:
    loaded = load_study(study({**pattern, **BINARY}, {"arrays": {"path": "rows.npz"}}))
    assert sorted(loaded.config.tasks) == sorted(names)
    data = prepare(loaded).data
    for name, task in loaded.config.tasks.items():
        (target,) = task.target
        column = frame()[ASSAYS[int(target[-1])]]
        assert data.describe()["tasks"][name]["splits"]["train"]["labels"] == 42
        assert sum(sum(data.splits[split]["main"].targets[name]) for split in ("train", "validation", "test")) == sum(
            column
        )


def test_a_multilabel_task_takes_an_array_whole_and_splits_have_arrays_of_their_own() -> None:
    loaded = load_study(study({"columns": "y", "kind": "multilabel"}, {"arrays": {"path": "rows.npz"}}, space={}))
    assert {name: task.target for name, task in loaded.config.tasks.items()} == {"y": ["y"]}
    cut = load_study(study({"columns": "y", **BINARY}, {"arrays": {"path": "cut.npz"}}))
    assert list(cut.config.tasks) == ["y_0", "y_1", "y_2"]
    assert told({"columns": "y", **BINARY, "names": "titles"}, {"arrays": {"path": "cut.npz"}})[0].startswith(
        "tasks.names: must name an array of names in data set 'main', or be a list of names, got 'titles' (choices: x, "
    )


def test_a_list_holds_patterns_and_named_tasks_and_a_named_task_takes_its_column_away() -> None:
    entries = [
        {"columns": "assay_?", "kind": "binary"},
        {"much": {"kind": "regression", "target": "dose"}, "b": {"kind": "classification", "target": "assay_b"}},
        {"columns": "assay *", **BINARY, "positive": 1},
    ]
    loaded = load_study(study(entries, {"table": {"path": "rows.csv"}}))
    assert {name: (task.kind, task.target) for name, task in loaded.config.tasks.items()} == {
        "assay_a": ("binary", ["assay_a"]),
        "much": ("regression", ["dose"]),
        "b": ("classification", ["assay_b"]),
        "assay_3_x": ("binary", ["assay 3/x"]),
    }
    assert list(loaded.config.tasks) == ["assay_a", "much", "b", "assay_3_x"]
    taken = [{"columns": "y", **BINARY}, {"two": {"kind": "multilabel", "target": ["y:0", "y:2"]}}]
    assert list(load_study(study(taken, {"arrays": {"path": "rows.npz"}})).config.tasks) == ["y_1", "two"]


def test_a_task_may_be_called_columns_and_a_column_like_a_pattern() -> None:
    named = {"columns": {"kind": "regression", "target": "dose"}}
    assert list(load_study(study(named, {"table": {"path": "rows.csv"}}, space={})).config.tasks) == ["columns"]
    frame().rename(columns={"dose": "y[0]"}).to_csv("rows.csv", index=False)
    tasks = {"columns": "y[0]", "kind": "regression"}
    assert list(load_study(study(tasks, {"table": {"path": "rows.csv"}}, space={})).config.tasks) == ["y_0"]


def test_each_data_set_is_matched_where_an_entry_names_it() -> None:
    frame().assign(extra=0).to_csv("more.csv", index=False)
    source = {"table": {"path": "rows.csv", "inputs": ["width", "length"]}}
    data = {"sources": {"one": source, "two": {"table": {**source["table"], "path": "more.csv"}}}}
    entries = [{"columns": "assay_?", "data": "two", **BINARY}, {"a": {**written("assay_a"), "data": "one"}}]
    loaded = load_study(study(entries, data=data))
    assert {name: task.data for name, task in loaded.config.tasks.items()} == {
        "assay_b": "two",
        "assay_a": "two",  # the named task predicts the column of the other data set
        "a": "one",
    }
    assert told({"columns": "assay*", **BINARY}, data=data) == [
        "tasks.data: must name the data set whose columns it matches (choices: one, two)"
    ]


def test_defaults_are_taken_by_every_task_that_does_not_set_its_own() -> None:
    defaults = {**BINARY, "positive": 0}
    tasks = {
        "b": {"target": "assay_b"},
        "a": {"target": "assay_a", "metric": "accuracy", "positive": None},
        "much": {"kind": "regression", "target": "dose", "metric": "rmse", "positive": None},
    }
    config = load_study(study(tasks, {"table": {"path": "rows.csv"}}, task_defaults=defaults)).config
    assert [(task.kind, task.positive) for task in config.tasks.values()] == [
        ("binary", 0),
        ("binary", None),
        ("regression", None),
    ]
    assert [task.metric for task in config.tasks.values()] == [Component(n) for n in ("auroc", "accuracy", "rmse")]
    assert "task_defaults" not in config.model_dump()
    both = study(
        {"columns": "assay_?"},
        {"table": {"path": "rows.csv"}},
        task_defaults=BINARY,
        source_tasks={"columns": "assay *"},
        space={"base": {"pretrain": {"epochs": 2}}},
    )
    source_tasks = load_study(both).config.source_tasks
    assert {name: (task.kind, task.metric) for name, task in source_tasks.items()} == {
        "assay_3_x": ("binary", Component("auroc"))
    }


def test_a_default_target_serves_a_data_set_for_each_task() -> None:
    source = {"table": {"path": "rows.csv", "inputs": ["width", "length"]}}
    more = {"data": {"sources": {"one": source, "two": source}}, "task_defaults": {**BINARY, "target": "assay_a"}}
    config = load_study(study({"first": {"data": "one"}, "second": {"data": "two"}}, **more)).config
    assert [task.target for task in config.tasks.values()] == [["assay_a"], ["assay_a"]]


@given(column=st.text(max_size=100))
def test_every_column_gives_a_name_that_a_task_can_have(column: str) -> None:
    name = task_name(column)
    assert is_name(name)
    assert name == column or not is_name(column)
    assert task_name(column) == name


def test_names_stay_apart_where_columns_are_long_or_in_another_script() -> None:
    long = [f"{'activity against receptor ' * 4}{number}" for number in range(3)]
    assert len({task_name(column) for column in (*long, "毒性", "活性", "")}) == 6
    assert task_name("3-methyl (µM)") == "task_3-methyl_M"
    assert task_name(long[0])[:30] == "activity_against_receptor_acti"


def test_columns_that_would_have_one_name_are_refused() -> None:
    frame().rename(columns={"assay_a": "assay 3.x"}).to_csv("rows.csv", index=False)
    assert told({"columns": "assay*", **BINARY}) == [
        "tasks.columns: must give each task another name, not assay_3_x twice; name one of the columns' tasks "
        "yourself, got ['assay 3.x', 'assay 3/x']"
    ]


def test_a_column_named_like_an_objective_is_told_at_the_pattern() -> None:
    frame().rename(columns={"assay_a": "improvement"}).to_csv("rows.csv", index=False)
    assert told({"columns": ["improvement", "assay_b"], **BINARY}) == [
        "tasks.columns: must not be named like an objective (task improvement), got 'improvement'"
    ]


def test_what_is_wrong_with_many_tasks_is_said_once_with_their_names() -> None:
    places = TaskLocations({("tasks", f"t{i}", "metric"): ("task_defaults.metric", True) for i in range(5)})
    wrong = [Problem(f"tasks.t{i}.metric", "must exist", "x") for i in range(5)]
    assert list(map(str, places.translate([*wrong, Problem("seed", "must be at least 0", -1)]))) == [
        "task_defaults.metric: must exist (tasks t0, t1, t2 and 2 more), got 'x'",
        "seed: must be at least 0, got -1",
    ]
    assert told({"columns": "assay*", **BINARY, "metric": "aurocc"})[0].startswith(
        "tasks.metric: must be a metric for binary tasks or a torchmetrics class (tasks assay_b, assay_a, assay_3_x), "
    )
    labels = frame().assign(assay_a=[*"abc"] * 20)
    labels.to_csv("rows.csv", index=False)
    assert told({"columns": "assay*", **BINARY})[0].startswith(
        "tasks.columns: must hold exactly 2 labels in the training rows"
    )


def test_a_study_holds_its_tasks_written_out_and_goes_on_with_the_file_that_names_columns(tmp_path: Path) -> None:
    tasks = {"columns": "assay*", **BINARY}

    def begin(loaded: LoadedStudy, resume: bool) -> None:
        StudyFolder(tmp_path / "runs", "assays").begin(loaded.config, {}, resume=resume)

    begin(load_study(study(tasks)), False)
    folder = StudyFolder(tmp_path / "runs", "assays")
    assert folder.read_config() == load_study(study(NAMED)).config
    begin(load_study(study(tasks)), True)
    begin(load_study(study(NAMED)), True)
    frame().assign(assay_new=[0, 1] * (ROWS // 2)).to_csv("rows.csv", index=False)
    with pytest.raises(StudyError, match="was begun with another tasks"):
        begin(load_study(study(tasks)), True)


def test_one_recipe_of_a_study_that_names_columns_is_trained() -> None:
    loaded = load_study(study({"columns": "assay*", **BINARY}))
    recipe = loaded.space.default().recipe.to_dict()
    one = load_one_recipe(study({"columns": "assay*", **BINARY}), recipe)
    assert list(one.config.tasks) == NAMES
    assert one.space.default().recipe.to_dict() == recipe
    single = load_one_recipe(study({"columns": "assay_a", **BINARY}), {**recipe, "weighting": "fixed"})
    assert "weighting" not in single.config.space, "without effect on one task, and left out"


def test_a_study_is_sent_to_a_cluster_that_alone_sees_the_data() -> None:
    nowhere = {"table": {"path": "/nowhere/rows.csv"}}
    space = {"weighting": {"fixed": {"log_ratio": {"assay_a": {"float": [-1, 1]}}}}}
    raw = study({"columns": "assay*", **BINARY}, nowhere, space=space, search={"trials": 2, "objective": "assay_a"})
    assert load_study(raw, read_data=False).config.name == "assays"
    with pytest.raises(ConfigError, match=r"^data.source.table.path: must be a readable file"):
        load_study(raw)
    with pytest.raises(ConfigError, match=r"^search.trials: must be at least 1, got 0$"):
        load_study({**raw, "search": {"trials": 0}}, read_data=False)
    assert load_study(study(NAMED, nowhere), read_data=False).config == load_study(study(NAMED, nowhere)).config


def test_new_tasks_of_an_exported_model_may_be_columns_too(tmp_path: Path) -> None:
    prepared = prepare(
        load_study(
            study(
                {"assay_b": written("assay_b")},
                {"table": {"path": "rows.csv", "exclude": ["dose", *ASSAYS[1:]]}},
                space={},
            )
        )
    )
    model = prepared.workload.network(["assay_b"], Component("hard", {"depth": 2}))
    (tmp_path / "later.yaml").write_text(
        "data: {source: {table: {path: rows.csv}}}\n"
        "task_defaults: {kind: binary}\n"
        "tasks: {columns: 'assay*', metric: auroc}\n"
    )
    request = read_request(tmp_path / "later.yaml", model)
    assert list(request.config.tasks) == NAMES
    assert request.new == ("assay_a", "assay_3_x")


def test_the_command_validates_a_study_that_names_columns(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "name: assays\n"
        "data: {source: {arrays: {path: rows.npz}}}\n"
        "task_defaults: {kind: binary, metric: auroc}\n"
        "tasks: {columns: y, names: titles}\n"
        "backbone: mlp\n"
        "space: {fusion: [mean, none]}\n"
        "search: {trials: 2}\n"
    )
    assert main(["validate", "study.yaml"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("  task ")] == [
        "  task first: binary, judged by auroc",
        "  task second_one: binary, judged by auroc",
        "  task third: binary, judged by auroc",
    ]
