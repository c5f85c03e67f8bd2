"""Kinds of tasks from a study file to a served model, in one process."""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.pyfunc import PyFuncModel

import mtl_search
from mtl_search.api.result import StudyResult
from mtl_search.errors import DataError
from mtl_search.export.programs import input_names, open_onnx, open_pt2
from mtl_search.extension.extend import extend_model

pytestmark = pytest.mark.timeout(600)
GRADES = ["poor", "fair", "good", "best"]


def rows(count: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(count, 3))
    merit = x @ [1.0, -1.0, 0.5] + rng.normal(size=count) / 2
    grade = np.array(GRADES, dtype=object)[np.digitize(merit, [-1.0, 0.0, 1.0])]
    grade[::17] = None
    return pd.DataFrame(
        {
            "a": x[:, 0],
            "b": x[:, 1],
            "c": x[:, 2],
            "grade": grade,
            "trust": rng.integers(0, 3, count),
            "passed": merit > 0,
        }
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    place = tmp_path_factory.mktemp("study")
    rows().to_csv(place / "rows.csv", index=False)
    tasks: dict[str, Any] = {
        "grade": {"kind": "ordinal", "target": "grade", "order": GRADES, "metric": "quadratic_kappa"},
        "passed": {
            "kind": "binary",
            "target": "passed",
            "metric": "matthews",
            "class_weight": "balanced",
            "weight": "trust",
            "loss": {"focal": {"gamma": 1.0}},
        },
    }
    schedule = {"epochs": 8, "batch_size": 16, "optimizer": {"adamw": {"lr": 0.02}}}
    raw = {
        "name": "kinds",
        "data": {"source": {"table": {"path": str(place / "rows.csv")}}},
        "tasks": tasks,
        "backbone": {"mlp": {"width": 16, "depth": 1}},
        "space": {"weighting": ["fixed", "uncertainty"], "single_task": schedule, "joint": schedule},
        "search": {"trials": 2, "baseline_seeds": 2, "repeats": {"trials": 1, "runs": 1}},
        "storage": str(place / "runs"),
        "tracking": {"uri": f"sqlite:///{place / 'mlflow.db'}"},
    }
    return mtl_search.run_study(raw, local=True, verbose=False)


@pytest.fixture(scope="module")
def exported(study: StudyResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study.export(tmp_path_factory.mktemp("export") / "kinds", ("pt2", "onnx")).folder


@pytest.fixture(scope="module")
def served(exported: Path) -> PyFuncModel:
    return mlflow.pyfunc.load_model(str(exported / "mlflow_model"))


def test_an_ordinal_task_is_learned_and_judged_by_ranks(study: StudyResult) -> None:
    grade = study.outcome.tasks["grade"]
    assert grade.metric == "quadratic_kappa"
    assert grade.higher_is_better
    assert grade.validation > 0.6
    assert study.outcome.tasks["passed"].metric == "matthews"
    assert study.outcome.tasks["passed"].validation > 0.5


def test_every_form_of_the_model_gives_the_same_probabilities(study: StudyResult, exported: Path) -> None:
    champion = study._champion()
    columns = {name: rows(20)[name].tolist() for name in "abc"}
    wanted, encoded = champion.predict(columns), champion.encode(columns)
    assert wanted["grade"].shape == (20, 4)
    np.testing.assert_allclose(wanted["grade"].sum(1), 1, rtol=1e-5)
    names = input_names(champion.preparation.spec)
    for program in (open_pt2(exported / "model.pt2"), open_onnx(exported / "model.onnx", names)):
        np.testing.assert_allclose(program(encoded)[0], wanted["grade"], atol=1e-6)


def test_a_served_model_answers_with_the_median_label(study: StudyResult, served: PyFuncModel) -> None:
    answer = served.predict(rows(60)[["a", "b", "c"]])
    for said, probabilities in zip(answer["grade"], answer["grade_probabilities"], strict=True):
        assert list(probabilities) == GRADES
        below = sum(probabilities[label] for label in GRADES[: GRADES.index(said)])
        assert below < 0.5 <= below + probabilities[said] + 1e-6
    assert len(set(answer["grade"])) == 4
    assert (answer["grade"] == rows(60)["grade"]).mean() > 0.5


def extend(exported: Path, to: Path, tasks: dict[str, Any]) -> None:
    rows(160).assign(late=rows(160)["a"] > rows(160)["b"]).to_csv(to.with_suffix(".csv"), index=False)
    later = {
        "data": {"source": {"table": {"path": str(to.with_suffix(".csv")), "inputs": ["a", "b", "c"]}}},
        "tasks": {"late": {"kind": "binary", "target": "late", "weight": "trust"}, **tasks},
        "extend": {"method": {"lwf": {"like": "grade"}}, "schedule": {"epochs": 2}},
    }
    to.with_suffix(".yaml").write_text(yaml.safe_dump(later), encoding="utf-8")
    extend_model(exported, to.with_suffix(".yaml"), to, print)


def test_an_ordinal_task_is_kept_where_the_model_is_extended(exported: Path, tmp_path: Path) -> None:
    old_tasks = {
        "grade": {"kind": "ordinal", "target": "grade", "order": GRADES},
        "passed": {"kind": "binary", "target": "passed"},
    }
    extend(exported, tmp_path / "new", old_tasks)
    before, after = (
        mlflow.pyfunc.load_model(str(folder / "mlflow_model")).predict(rows(60)[["a", "b", "c"]])
        for folder in (exported, tmp_path / "new")
    )
    assert {"late", "grade", "passed"} <= set(after)
    assert (before["grade"] == after["grade"]).mean() > 0.8
    assert list(after["grade_probabilities"][0]) == GRADES


def test_another_order_than_the_models_is_refused(exported: Path, tmp_path: Path) -> None:
    tasks = {"grade": {"kind": "ordinal", "target": "grade", "order": GRADES[::-1]}}
    told = r"tasks\.grade\.order: must be left out, or list the labels as the model has them, got .*choices: poor, fair"
    with pytest.raises(DataError, match=told):
        extend(exported, tmp_path / "new", tasks)
