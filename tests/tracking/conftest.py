"""A fresh MLflow database for every test, and a view of what lies in it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from mtl_search.tracking.tracker import Tracker

PATIENCE = 60.0  # seconds; only a failing test waits so long


class Seen:
    """What MLflow shows of one experiment, by the keys of the runs; fails when a run is doubled."""

    def __init__(self, uri: str, experiment: str = "e") -> None:
        self.uri, self.client = uri, MlflowClient(uri)
        self.experiment = experiment

    @property
    def runs(self) -> dict[str, Run]:
        found = self.client.get_experiment_by_name(self.experiment)
        runs = self.client.search_runs([found.experiment_id])
        by_key = {run.data.tags["mtl_search.key"]: run for run in runs}
        assert len(by_key) == len(runs), "a run is doubled"
        return by_key

    @property
    def states(self) -> dict[str, str]:
        return {key: run.info.status for key, run in self.runs.items()}

    def curve(self, key: str, metric: str) -> list[tuple[int, float, int]]:
        """Step, value and time stamp of each point."""
        points = self.client.get_metric_history(self.runs[key].info.run_id, metric)
        return [(point.step, point.value, point.timestamp) for point in points]


@pytest.fixture
def seen(uri: str) -> Seen:
    return Seen(uri)


@pytest.fixture
def track(tmp_path: Path, uri: str) -> Callable[..., Tracker]:
    """Starts a tracker on the test's journal: the first time a new study, then a resumed one."""

    def start(uri: str = uri, experiment: str = "e", folder: str = "journal") -> Tracker:
        return Tracker(tmp_path / folder, uri, experiment, "quickstart").start()

    return start


@pytest.fixture
def rejected(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    def read() -> list[dict[str, Any]]:
        file = tmp_path / "journal" / "rejected.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    return read
