"""Whole studies whose rows stream through Ray Data: the trials and models of the study in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from small_studies import folder_of, run_here, study_of

from mtl_search.search.ray_runtime import ray_runtime

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("cluster")]

JOINT = {"epochs": 2, "batch_size": 32, "optimizer": {"adamw": {"lr": {"float": [1e-3, 1e-1], "log": True}}}}


def raw(folder: Path, workers: int, *, stream: bool) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x = {f"x{column}": rng.normal(size=2000).astype(np.float32) for column in range(5)}
    columns = {**x, "kind": np.where(x["x0"] > x["x1"], "up", "down"), "petal": x["x2"] - x["x3"]}
    pq.write_table(pa.table(columns), folder / "t.parquet", row_group_size=300)
    return {
        **study_of(folder, 2, JOINT, baseline_seeds=1, repeats={"trials": 1, "runs": 1}),
        "data": {"source": {"table": {"path": str(folder / "t.parquet")}}, "stream": stream},
        "tasks": {"kind": {"kind": "binary", "target": "kind"}, "petal": {"kind": "regression", "target": "petal"}},
        "backbone": {"mlp": {"width": 8, "depth": 2}},
        "resources": {"workers": workers, "concurrent_trials": 1},
    }


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_study_that_streams_has_the_trials_of_the_one_in_memory(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtl_search.data.streaming.WINDOW_BYTES", 2000)
    found = []
    for stream in (False, True):
        storage = tmp_path / str(stream)
        outcome = run_here(storage, raw(tmp_path, workers, stream=stream), runtime=ray_runtime)
        trials = folder_of(storage).records("journal")
        told = [(trial.number, trial.state, trial.recipe) for trial in trials]
        figures = [trial.value for trial in trials] + [task.validation for task in outcome.tasks.values()]
        found.append((told, figures, load_file(Path(outcome.folder) / "model.safetensors")))
    memory, disk = found
    assert disk[0] == memory[0]
    assert disk[1] == pytest.approx(memory[1], rel=1e-6)  # validation sums its passes in another order
    assert all(np.array_equal(value, memory[2][name]) for name, value in disk[2].items())
