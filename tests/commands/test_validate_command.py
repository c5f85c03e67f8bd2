"""What ``validate`` says of a sound study: which inputs are numbers and which are categories, and what may surprise."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from mtl_search.cli import main


def validate(capsys: pytest.CaptureFixture[str], source: dict[str, Any], target: str, **task: Any) -> list[str]:
    study = {
        "name": "look",
        "data": {"source": source},
        "tasks": {"t": {"kind": "regression", "target": target} | task},
        "backbone": {"mlp": {"width": 4, "depth": 1}},
        "space": {"single_task": {"batch_size": {"choice": [8, 16]}}},
        "search": {"trials": 1},
    }
    Path("study.yaml").write_text(yaml.safe_dump(study))
    assert main(["validate", "study.yaml"]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # validate adds the study's folder; this takes it off again


def test_inputs_are_listed_by_kind_and_notes_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"age": range(240), "job": ["a", "b"] * 120, "code": [1, 2, 3, 4] * 60, "said": ["so it is"] * 240}
    pd.DataFrame(columns | {"y": np.arange(240.0)}).to_csv("t.csv")
    table = {"path": "t.csv", "categorical": ["code"], "text": ["said"]}
    lines = validate(capsys, {"table": table}, "y", missing=-1)
    assert lines[:2] == [
        "note: tasks.t.missing: no row holds -1, so it marks no label as missing",
        "note: data.source.table.inputs: a column without a name (Unnamed: 0) is taken for the rows' numbers and is no "
        "input unless it is listed",
    ]
    assert lines[2] == "look: no errors"
    assert lines[4:7] == [
        "  inputs that are numbers: age",
        "  inputs that are categories: job (2 values), code (4 values)",
        "  inputs that are text: said",
    ]


def test_many_inputs_are_folded(capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({f"x{number}": np.arange(40.0) for number in range(100)}).to_csv("t.csv", index=False)
    lines = validate(capsys, {"table": {"path": "t.csv"}}, "x99")
    names = ", ".join(f"x{number}" for number in range(12))
    assert f"  inputs that are numbers: {names}, ... 87 more" in lines


def test_an_array_is_told_with_its_shape(capsys: pytest.CaptureFixture[str]) -> None:
    lines = validate(capsys, {"sklearn": {"name": "digits", "inputs": ["image"]}}, "target")
    assert "  inputs that are arrays: image of shape (8, 8) (float32)" in lines
