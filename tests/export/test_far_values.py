"""Inputs and targets far from zero: every exported form answers as it does for the same study near zero."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from finished_studies import Finished, finish

from mtl_search.export.answers import answers
from mtl_search.export.bundle import export_model
from mtl_search.export.programs import input_names, open_onnx, open_pt2
from mtl_search.export.reopening import reopen
from mtl_search.extension.extend import extend_model

MILLISECONDS, SECONDS = 1_700_000_000_000, 1_700_000_000
ROWS = 120


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def columns(far: bool) -> dict[str, Any]:
    """Ten minutes of time stamps, and targets a hundred apart; at zero, or where clocks have them."""
    rng = np.random.default_rng(7)
    t, v = rng.integers(0, 600_000, ROWS), rng.normal(size=ROWS)
    y = 50 * np.sin(t / 1e5) + 20 * v
    return {"t": t + far * MILLISECONDS, "v": v, "y": y + far * SECONDS, "size": y * (1e20 if far else 1.0)}


def study(place: Path, far: bool) -> Finished:
    pd.DataFrame(columns(far)).to_csv(place / "rows.csv", index=False)
    raw = {
        "name": "far" if far else "near",
        "data": {"source": {"table": {"path": str(place / "rows.csv")}}},
        "tasks": {name: {"kind": "regression", "target": name} for name in ("y", "size")},
        "backbone": {"mlp": {"width": 12, "depth": 2}},
    }
    return finish(place / "storage", raw, depth=1)


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return study(tmp_path_factory.mktemp("near"), far=False)


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return study(tmp_path_factory.mktemp("far"), far=True)


def rows_of(far: bool) -> dict[str, list[Any]]:
    return {name: columns(far)[name].tolist() for name in ("t", "v")}


def check(got: Any, near: Finished, names: tuple[str, ...] = ("y", "size")) -> None:
    """The answers at far rows are those of the other study at near ones, moved and enlarged."""
    wanted, spread = near.champion.predict(rows_of(False)), columns(False)["y"].std()
    for name, values in zip(names, got, strict=True):
        values = np.asarray(values)
        assert values.dtype == np.float64
        assert np.unique(values).size > 100
        back = values - SECONDS if name == "y" else values / 1e20
        np.testing.assert_allclose(back, wanted[name], atol=1e-4 * spread)


def test_every_form_of_the_model_answers_as_near_zero(near: Finished, far: Finished, tmp_path: Path) -> None:
    champion = far.champion
    check(champion.predict(rows_of(True)).values(), near)
    check(answers(champion, pd.DataFrame(rows_of(True)))[["y", "size"]].to_numpy().T, near)
    report = export_model(far.folder, tmp_path / "model", ("pt2", "onnx"))
    encoded = champion.encode(rows_of(True))
    assert encoded[0].dtype == np.float64
    names = input_names(champion.preparation.spec)
    for program in (open_pt2(report.folder / "model.pt2"), open_onnx(report.folder / "model.onnx", names)):
        check(program(encoded), near)
    served = mlflow.pyfunc.load_model(str(report.folder / "mlflow_model"))
    check(served.predict(pd.DataFrame(rows_of(True)))[["y", "size"]].to_numpy().T, near)
    labels = json.loads((report.folder / "labels.json").read_text(encoding="utf-8"))
    assert labels["inputs"]["dtype"] == "float64"


def test_an_extension_keeps_the_old_answers_and_judges_what_is_defined(
    near: Finished, far: Finished, tmp_path: Path
) -> None:
    old = export_model(far.folder, tmp_path / "model").folder
    later = columns(True) | {"again": columns(True)["y"], "rare": [0, 1] * 45 + [0] * 30}
    later["part"] = ["train"] * 60 + ["validation"] * 30 + ["test"] * 30
    pd.DataFrame(later).to_csv(tmp_path / "later.csv", index=False)
    file = tmp_path / "later.yaml"
    tasks = {
        "again": {"kind": "regression", "target": "again", "metric": "r2"},
        "rare": {"kind": "binary", "target": "rare", "metric": "auroc"},
        "y": {"kind": "regression", "target": "y"},
    }
    extend = {"method": {"frozen": {"like": "y"}}, "schedule": {"epochs": 60}}
    source = {"table": {"path": str(tmp_path / "later.csv"), "inputs": ["t", "v"], "split_by": "part"}}
    file.write_text(yaml.safe_dump({"data": {"source": source}, "tasks": tasks, "extend": extend}))
    found = extend_model(old, file, tmp_path / "new", lambda line: None)
    check(list(reopen(tmp_path / "new").predict(rows_of(True)).values())[:2], near)
    for split in ("validation", "test"):
        again, y = (found.record["tasks"][name][split] for name in ("again", "y"))
        assert again["after"] > 0.3 > 0.05 > abs(again["trivial"])
        assert y["before"] == y["after"] < 300
    assert set(found.record["tasks"]["rare"]["test"].values()) == {None}  # no row has the label there
    assert found.record["tasks"]["rare"]["validation"]["trivial"] == 0.5
    assert found.record["moved"] == {"y": 0.0, "size": 0.0}
