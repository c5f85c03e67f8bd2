"""What a stage leaves, read back for the tests, and controls that stop or kill one."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mtl_search.storage.reports import EpochReport, StageResult
from mtl_search.storage.stage_results import read_result
from mtl_search.training.evaluation import evaluate
from mtl_search.training.stages import CLOCKED, Stage, trained_model
from mtl_search.training.workspace import Workspace


class KilledError(Exception):
    """Stands for a kill."""


class Script:
    """A control that stops a stage after an epoch, or ends it like a kill; it writes down what it hears.

    Args:
        stop: Epoch after which it says no.
        kill: Epoch whose report is the last thing that happens.
    """

    def __init__(self, stop: int | None = None, kill: int | None = None) -> None:
        self._stop, self._kill = stop, kill
        self.heard: list[EpochReport] = []
        self.asked: list[int] = []

    def report(self, epoch: EpochReport) -> None:
        self.heard.append(epoch)
        if epoch.epoch == self._kill:
            raise KilledError

    def proceed(self, epoch: int) -> bool:
        self.asked.append(epoch)
        return epoch != self._stop


def timeless(stage_result: StageResult) -> dict[str, Any]:
    """A result as it is stored, without what the clock decides."""
    result = stage_result.to_dict()
    history = [{name: value for name, value in report.items() if name != "seconds"} for report in result["history"]]
    return {**result, "history": history, **dict.fromkeys(CLOCKED)}


def files_of(stage: Stage) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Result, without what the clock decides, and model in a stage's folder."""
    folder = Path(stage.folder)
    return timeless(read_result(folder / "result.json")), load_file(folder / "model.safetensors")


def judged(stage: Stage, workspace: Workspace) -> dict[str, float]:
    """Validation metrics of the model that a stage left."""
    results = evaluate(
        trained_model(stage, workspace), workspace.splits["validation"], workspace.metrics, workspace.world
    )
    return {task: result["metric"] for task, result in results.items()}
