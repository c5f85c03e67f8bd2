"""A study whose rows, order of tasks or database have changed since it was begun: refused, and nothing is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_iris

from mtl_search.cli import main
from mtl_search.errors import StudyError
from mtl_search.storage.files import read_json, write_json, write_json_once
from mtl_search.storage.paths import storage_path
from mtl_search.study_store.data_card import describe_data
from mtl_search.study_store.folder import StudyFolder
from mtl_search.study_store.optuna_journal import leave_storage
from mtl_search.validation.prepare import Prepared, check_rows_of, prepare
from mtl_search.validation.study_file import load_study

TASKS: dict[str, Any] = {
    "petal": {"kind": "regression", "target": "petal width (cm)"},
    "kind": {"kind": "classification", "target": "target"},
}


def write_rows(folder: Path, offset: float = 0.0) -> None:
    frame = load_iris(as_frame=True).frame
    frame["sepal width (cm)"] += offset
    frame.to_csv(folder / "rows.csv", index=False)


def study(folder: Path, **sections: Any) -> dict[str, Any]:
    return {
        "name": "flowers",
        "data": {"source": {"table": {"path": str(folder / "rows.csv")}}},
        "tasks": TASKS,
        "backbone": {"mlp": {"width": 8, "depth": 2}},
        "space": {"joint": {"epochs": 1, "optimizer": {"adamw": {"lr": {"float": [0.001, 0.1], "log": True}}}}},
        "search": {"trials": 2},
        "storage": str(folder / "runs"),
        **sections,
    }


def prepared(folder: Path, **sections: Any) -> Prepared:
    return prepare(load_study(study(folder, **sections)))


def begin(folder: StudyFolder, what: Prepared, *, resume: bool = False, join: bool = False) -> None:
    folder.begin(what.study.config, describe_data(what.workload), resume=resume, join=join)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path)
    return tmp_path


def contents(files: list[Path]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in files}


def made(folder: StudyFolder, url: str) -> None:
    """Have Optuna's study in a database, and leave the database."""
    leave_storage(folder.optuna_study(url)._storage)


@pytest.mark.parametrize("way", ["--resume", "--join"])
@pytest.mark.parametrize("database", ["journal", "sqlite:///{}/optuna.db"])
def test_changed_rows_are_refused_and_leave_a_finished_study_as_it_was(
    here: Path, capfd: pytest.CaptureFixture[str], way: str, database: str
) -> None:
    search = {"trials": 2, "storage": database.format(here)}
    folder = StudyFolder(here / "runs", "flowers")
    begin(folder, prepared(here, search=search))
    made(folder, search["storage"])
    write_json(folder.outcome_file, {"number": 0})
    before = contents(list(folder.path.glob("*.json*")))
    assert {"data.json", "study.json", "outcome.json"} <= before.keys()
    write_rows(here, 100.0)
    (here / "flowers.yaml").write_text(yaml.safe_dump(study(here, search=search), sort_keys=False))
    assert main(["search", "flowers.yaml", way, "--trials", "9"]) == 2
    assert (
        "error: data: the rows have changed since study flowers was begun (mean of column sepal width (cm): 3.0"
        in capfd.readouterr().err
    )
    assert contents(list(folder.path.glob("*.json*"))) == before


def test_changed_rows_are_refused_in_a_bucket(here: Path, s3: Any) -> None:
    folder = StudyFolder(storage_path("s3://bucket/runs"), "flowers")
    with folder.locked():
        begin(folder, prepared(here))
    before = {name: s3.read(name) for name in s3.names() if name.endswith(".json")}
    assert {name.rpartition("/")[2] for name in before} == {"data.json", "study.json"}
    write_rows(here, 100.0)
    changed = prepared(here)
    with pytest.raises(StudyError, match="the rows have changed"), folder.locked():
        begin(folder, changed, resume=True)
    assert {name: s3.read(name) for name in s3.names() if name.endswith(".json")} == before


def test_equal_rows_resume_and_the_card_of_the_beginning_stays(here: Path) -> None:
    folder = StudyFolder(here / "runs", "flowers")
    begin(folder, prepared(here))
    card = folder.data_file.read_bytes()
    begin(folder, prepared(here, search={"trials": 7}), resume=True)
    assert folder.data_file.read_bytes() == card
    assert folder.read_config().search.trials == 7


def fewer_rows(folder: Path) -> None:
    pd.read_csv(folder / "rows.csv").iloc[:-10].to_csv(folder / "rows.csv", index=False)


def other_labels(folder: Path) -> None:
    frame = pd.read_csv(folder / "rows.csv")
    frame["target"] = np.where(frame["target"] == 2, 1, frame["target"])
    frame.to_csv(folder / "rows.csv", index=False)


def other_targets(folder: Path) -> None:
    frame = pd.read_csv(folder / "rows.csv")
    frame["petal width (cm)"] += 1
    frame.to_csv(folder / "rows.csv", index=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (fewer_rows, "rows of main in train: 106 then, 98 now"),
        (other_labels, "labels of task kind in train"),
        (other_targets, "mean of task petal: 1.2"),
        (lambda folder: write_rows(folder, 100.0), r"mean of column sepal width \(cm\): 3.0"),
    ],
)
def test_a_study_of_an_earlier_version_resumes_unless_its_rows_have_changed(
    here: Path, change: Callable[[Path], None], words: str
) -> None:
    folder = StudyFolder(here / "runs", "flowers")
    begin(folder, prepared(here))
    old = {part: value for part, value in read_json(folder.data_file).items() if part not in ("key", "source_tasks")}
    write_json(folder.data_file, old)
    begin(folder, prepared(here), resume=True)
    assert read_json(folder.data_file) == old
    change(here)
    changed = prepared(here)
    with pytest.raises(StudyError, match=words):
        begin(folder, changed, resume=True)


def test_a_study_killed_before_its_card_was_written_goes_on(here: Path) -> None:
    folder = StudyFolder(here / "runs", "flowers")
    begin(folder, prepared(here))
    folder.data_file.unlink()
    begin(folder, prepared(here), resume=True)
    assert folder.read_data()["description"]["rows"]["train"] == {"main": 106}


def test_another_order_of_tasks_or_sources_is_refused(here: Path) -> None:
    table = {"table": {"path": str(here / "rows.csv")}}
    sources = {"data": {"sources": {"a": table, "b": table}}}
    tasks = {name: {**task, "data": data} for (name, task), data in zip(TASKS.items(), "ab", strict=True)}
    folder = StudyFolder(here / "runs", "flowers")
    begin(folder, prepared(here, **sources, tasks=tasks))
    swapped = prepared(here, **sources, tasks=dict(reversed(tasks.items())))
    with pytest.raises(StudyError, match="study flowers was begun with another order of tasks"):
        begin(folder, swapped, resume=True)
    swapped = prepared(here, data={"sources": {"b": table, "a": table}}, tasks=tasks)
    with pytest.raises(StudyError, match=r"study flowers was begun with another order of data\.sources"):
        begin(folder, swapped, resume=True)


def test_trials_are_looked_for_where_they_are(here: Path) -> None:
    first, second = (f"sqlite:///{here / name}.db" for name in ("first", "second"))
    folder = StudyFolder(here / "runs", "flowers")
    begin(folder, prepared(here, search={"storage": first}))
    made(folder, first)
    elsewhere = prepared(here, search={"storage": second})
    with pytest.raises(StudyError, match=r"search\.storage: .*second\.db' holds no study flowers, which has"):
        begin(folder, elsewhere, resume=True)
    assert folder.read_config().search.storage == first
    made(StudyFolder(here / "moved", "flowers"), second)  # as if the trials had been moved there
    begin(folder, elsewhere, resume=True)
    assert folder.read_config().search.storage == second
    folder.trials.mkdir()
    (here / "second.db").unlink()
    with pytest.raises(StudyError, match="holds no study flowers"):
        begin(folder, elsewhere, resume=True)


def test_a_new_study_takes_no_trials_of_another_storage_s_study(here: Path) -> None:
    search = {"storage": f"sqlite:///{here / 'shared.db'}"}
    begin(StudyFolder(here / "runs", "flowers"), prepared(here, search=search))
    made(StudyFolder(here / "runs", "flowers"), search["storage"])
    with pytest.raises(StudyError, match="holds a study flowers that was begun in another storage than"):
        begin(StudyFolder(here / "others", "flowers"), prepared(here, search=search))
    assert not (here / "others" / "studies" / "flowers" / "study.json").exists()


@pytest.mark.parametrize("seed", [0, 5])
def test_a_found_recipe_is_trained_on_the_rows_of_its_study(here: Path, seed: int) -> None:
    folder = StudyFolder(here / "runs", "flowers")
    begin(folder, prepared(here))
    check_rows_of(folder, prepared(here, name="again", seed=seed))
    write_rows(here, 100.0)
    with pytest.raises(StudyError, match=r"the rows have changed .*mtl-search train RECIPE\.yaml --study FILE"):
        check_rows_of(folder, prepared(here, name="again", seed=seed))


def test_of_two_writers_the_first_one_counts(tmp_path: Path) -> None:
    write_json_once(tmp_path / "card.json", {"rows": 1})
    write_json_once(tmp_path / "card.json", {"rows": 2})
    assert read_json(tmp_path / "card.json") == {"rows": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"]
