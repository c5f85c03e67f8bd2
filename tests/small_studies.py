"""Study files of a few seconds on iris, with a backbone whose traps spring at certain batch sizes."""

import shutil
from pathlib import Path
from typing import Any

import trapped_backbone
import yaml
from tiny_studies import SOURCE, TASKS

from mtl_search.recipe import Recipe
from mtl_search.results.outcome import Outcome
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.callbacks import (
    Callback,
    CallbackList,
    EpochEnded,
    RunEvent,
    RunStarted,
    TrialEnded,
    TrialRun,
)
from mtl_search.search.local_runtime import local_runtime
from mtl_search.search.runtime import Runtime
from mtl_search.search.study import Study, StudyInputs
from mtl_search.study_store.data_card import describe_data
from mtl_search.study_store.folder import StudyFolder
from mtl_search.validation.prepare import prepare
from mtl_search.validation.study_file import load_study


def study_of(folder: Path, trials: int, joint: dict[str, Any], **search: Any) -> dict[str, Any]:
    """A study's plain values.

    Args:
        folder: Where traps leave their marks.
        trials: The budget.
        joint: The searched schedule of joint training.
        search: Sampler, stopper, objective.
    """
    return {
        "name": "tiny",
        "data": {"source": SOURCE},
        "tasks": TASKS,
        "backbone": {"python": {"function": "trapped_backbone:blocks", "params": {"folder": str(folder)}}},
        "space": {
            "sharing": {"hard": {"depth": 1}},
            "single_task": {"epochs": 2, "batch_size": 32, "optimizer": {"adamw": {"lr": 0.01}}},
            "joint": joint,
        },
        "search": {
            "trials": trials,
            "sampler": "random",
            "stopper": "none",
            "baseline_seeds": 2,
            "repeats": {"trials": 2, "runs": 2},
            **search,
        },
        "resources": {"concurrent_trials": 2},
    }


def write_study(folder: Path, raw: dict[str, Any]) -> Path:
    """The study as a file, with its backbone's module beside it, as a user would have it."""
    shutil.copy(trapped_backbone.__file__, folder)
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return file


class Story(Callback):
    """Keeps what a callback is told of trials."""

    def __init__(self) -> None:
        self.started: dict[int, Recipe] = {}
        self.epochs: dict[int, list[int]] = {}
        self.ended: list[TrialRecord] = []

    def on_run(self, event: RunEvent) -> None:
        match event:
            case RunStarted(TrialRun(number), recipe):
                assert number not in self.started
                self.started[number] = recipe
                self.epochs[number] = []
            case EpochEnded(TrialRun(number), report):
                self.epochs[number].append(report.epoch)
            case TrialEnded(trial):
                self.ended.append(trial)


def run_here(storage: Path, raw: dict[str, Any], *callbacks: Callback, runtime: Runtime = local_runtime) -> Outcome:
    """Run a study in this process, or on the Ray that it is connected to, or go on with it."""
    prepared = prepare(load_study({**raw, "storage": str(storage)}))
    folder = folder_of(storage)
    folder.begin(prepared.study.config, describe_data(prepared.workload), resume=folder.exists)
    inputs = StudyInputs(prepared.study.config, prepared.study.space, prepared.workload)
    return Study(inputs, folder, CallbackList(callbacks), runtime).run()


def folder_of(storage: Path) -> StudyFolder:
    return StudyFolder(storage, "tiny")
