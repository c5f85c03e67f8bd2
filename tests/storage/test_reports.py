"""Reports and results as stored JSON: the format stays, and what earlier versions wrote is read."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from mtl_search.errors import DamagedError
from mtl_search.storage.files import write_json
from mtl_search.storage.reports import EpochReport, StageResult
from mtl_search.storage.stage_results import read_result, result_in

REPORT = EpochReport(
    1,
    2.5,
    3.0,
    metrics={"kind": 0.9},
    validation_loss={"kind": 0.3},
    training_loss={"kind": 0.2},
    weights={"kind": 1.0},
    cosines={"kind": {"petal": 0.1}},
    lr=0.01,
    seconds=0.5,
)
RESULT = StageResult(
    key="k", kind="joint", tasks=("kind", "petal"), best_epoch=1, best_score=3.0, history=(REPORT,), recipe={}
)


def test_an_epoch_is_stored_with_the_same_keys_in_the_same_order_as_ever() -> None:
    assert list(REPORT.to_dict()) == (
        [
            "epoch",
            "score",
            "best_score",
            "metrics",
            "validation_loss",
            "training_loss",
            "weights",
            "cosines",
            "lr",
            "seconds",
        ]
    )
    assert list(replace(REPORT, improvement=1.0).to_dict())[2:5] == ["best_score", "improvement", "metrics"]
    assert replace(REPORT, group="group-0").to_dict() == REPORT.to_dict(), "who trained it is not stored"


@pytest.mark.parametrize("report", [REPORT, replace(REPORT, improvement=-4.0)])
def test_an_epoch_is_read_as_it_was_written(report: EpochReport) -> None:
    assert EpochReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "result.json", replace(RESULT, cached=True, resampled={"kind": [0.1]}).to_dict())
    assert result_in(tmp_path) == RESULT


def test_what_an_earlier_or_later_version_wrote_is_read(tmp_path: Path) -> None:
    plain = {"key": "k", "metrics": {"kind": 0.9}, "best_epoch": 2, "best_score": 1.0, "later": "unknown"}
    write_json(tmp_path / "result.json", {**plain, "history": [{"epoch": 0, "score": 1.0, "best_score": 1.0}]})
    found = read_result(tmp_path / "result.json")
    assert (found.best_epoch, found.metrics, found.recipe, found.peak_mib) == (2, {"kind": 0.9}, None, None)
    assert found.history == (EpochReport(0, 1.0, 1.0),)


@pytest.mark.parametrize("content", [[1], {"history": [{"epoch": 1}]}, {"history": [3]}])
def test_a_file_that_holds_no_result_is_damaged(tmp_path: Path, content: object) -> None:
    write_json(tmp_path / "result.json", content)
    with pytest.raises(DamagedError, match="holds no result of a stage"):
        read_result(tmp_path / "result.json")
    assert result_in(tmp_path) is None


def test_results_of_version_0_1_0_come_out_as_they_went_in(tmp_path: Path) -> None:
    with tarfile.open(Path(__file__).parents[1] / "earlier" / "study.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    files = sorted(tmp_path.rglob("result.json"))
    assert len(files) > 10
    for file in files:
        stored = json.loads(file.read_text())
        assert stored.pop("sha256")
        assert json.dumps(read_result(file).to_dict()) == json.dumps(stored), "same values in the same order"
