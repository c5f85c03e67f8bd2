"""A study from a source to one fused model, on a real Ray and a real MLflow database."""

from collections import Counter
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from small_studies import Story, folder_of, run_here, study_of

from mtl_search.config.study_config import StudyConfig
from mtl_search.storage.files import read_json
from mtl_search.tracking.recorder import Recorder
from mtl_search.tracking.tracker import Tracker
from mtl_search.validation.study_file import load_study

pytestmark = pytest.mark.timeout(600)

STEPS = ["base", "single", "fused", "joint"]
METRICS = {"kind": "accuracy", "petal": "rmse", "length": "rmse"}
SPACE = {
    "base": [{"pretrain": {"epochs": 2, "batch_size": 32}}, "random"],
    "transfer": ["parameters", "features"],
    "auxiliary": [{"constant": {"weight": 0.5}}, "none"],
    "fusion": ["mean", "none", {"learned": {"steps": 3}}],
}


def runs_by_key(uri: str) -> dict[str, Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("e")
    assert experiment is not None
    return {run.data.tags["mtl_search.key"]: run for run in client.search_runs([experiment.experiment_id])}


@pytest.mark.slow
def test_every_trial_tells_of_the_way_from_its_base(tmp_path: Path, uri: str) -> None:
    raw = study_of(tmp_path, 6, {"epochs": 2, "batch_size": 32}, baseline_seeds=1, repeats={"runs": 0})
    inputs = ["sepal length (cm)", "sepal width (cm)"]
    raw["data"] = {"source": {"sklearn": {"name": "iris", "inputs": inputs}}}
    raw["source_tasks"] = {"length": {"kind": "regression", "target": "petal length (cm)"}}
    raw["space"] |= SPACE
    config: StudyConfig = load_study({**raw, "storage": str(tmp_path / "runs")}).config
    story = Story()
    with Tracker(tmp_path / "journal", uri, "e", "tiny") as tracker:
        recorder = Recorder(tracker, config, METRICS)
        recorder.study_started({"rows": {"train": {"main": 1}}}, {})
        outcome = run_here(tmp_path / "runs", raw, recorder, story)
        assert tracker.flush(60) == 0
    folder = folder_of(tmp_path / "runs")
    records = folder.records("journal")
    assert [record.state for record in records] == ["complete"] * 6
    assert all(list(record.steps) == STEPS for record in records)
    assert all(list(metrics) == ["kind", "petal"] for record in records for metrics in record.steps.values())
    for name, task in outcome.tasks.items():
        assert list(task.steps) == STEPS
        assert task.steps["joint"] == task.validation
        assert f"| {name} | " + " | ".join(f"{value:.4g}" for value in task.steps.values()) in outcome.to_markdown()

    # Each thing is trained once: the base, and of every task one model for each base and transfer.
    results = [read_json(path) for path in folder.cache.glob("*/result.json")]
    kinds = Counter((result["kind"], *result["tasks"]) for result in results)
    pairs = {(record.recipe.base, record.recipe.transfer) for record in records if record.recipe is not None}
    pairs.add((story.started[0].base, story.started[0].transfer))
    # A better baseline among them is known by the same models, since no fresh seeds measure it here.
    assert kinds == {
        ("pretrain", "length"): 1,
        ("single_task", "kind"): len(pairs),
        ("single_task", "petal"): len(pairs),
    }

    runs = runs_by_key(uri)
    assert runs["base"].data.tags["kind"] == "base"
    client = MlflowClient(uri)
    for record in records:
        run = runs[f"trial-{record.number}"]
        points = client.get_metric_history(run.info.run_id, "path/petal/rmse")
        assert [(point.step, point.value) for point in points] == [
            (number, pytest.approx(record.steps[step]["petal"])) for number, step in enumerate(STEPS)
        ]
        assert run.data.metrics["fused/kind/accuracy"] == pytest.approx(record.steps["fused"]["kind"])
