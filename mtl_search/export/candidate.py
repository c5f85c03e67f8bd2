"""Candidates: the model of any complete trial as a `Champion`, with what is known of it.

The registry's challenger is one. Test data was read for the winner alone, so a candidate has no test figures.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mtl_search.errors import StudyError
from mtl_search.export.champion import Champion, rebuild
from mtl_search.models.sharing.settling import measure_of
from mtl_search.search.folder import StudyFolder
from mtl_search.search.outcome import Outcome
from mtl_search.search.record import TrialRecord
from mtl_search.training.files import RESULT_FILE, read_json


def champion_of_trial(folder: StudyFolder, number: int) -> Champion:
    """Rebuild the model that a complete trial kept.

    Args:
        folder: Of a study that has ended.
        number: The trial.

    Raises:
        StudyError: The study has not ended, the trial kept no model, or files are missing.
    """
    written = folder.read_outcome()
    if written is None:
        raise StudyError(f"study {folder.name} has no baselines to compare with until it has ended")
    records = folder.records(folder.read_config().search.storage)
    trial = next((record for record in records if record.number == number and record.job), None)
    if trial is None:
        raise StudyError(f"study {folder.name} has no complete trial {number}")
    return rebuild(folder, _outcome(folder, Outcome.from_dict(written), trial))


def _outcome(folder: StudyFolder, study: Outcome, trial: TrialRecord) -> dict[str, Any]:
    """The study's outcome as if this trial had won, less what was measured for the winner alone."""
    home = folder.trials / str(trial.job)
    gains = study.objective.gains(trial.metrics)
    tasks = {
        name: asdict(task)
        | {"validation": trial.metrics[name], "gain": gains[name]}
        | {"steps": {step: values[name] for step, values in trial.steps.items()}}
        | dict.fromkeys(("test", "test_baseline", "test_gain", "repeated", "repeated_test", "worse"))
        for name, task in study.tasks.items()
    }
    repeated = {candidate.number: candidate.repeated for candidate in study.candidates}.get(trial.number)
    return study.to_dict() | {
        "number": trial.number,
        "recipe": _recipe(folder, trial),
        "folder": str(home),
        "improvement": study.objective.improvement(trial.metrics),
        "test_improvement": None,
        "tasks": tasks,
        "best_epoch": trial.best_epoch or 0,
        "parameters": trial.parameters or 0,
        "multiply_adds": trial.multiply_adds or 0,
        "repeated": None if repeated is None else asdict(repeated),
        "repeated_test": None,
    }


def _recipe(folder: StudyFolder, trial: TrialRecord) -> dict[str, Any]:
    """The recipe as trained: where its sharing waited for task affinity, the trial's result says what came of it."""
    assert trial.recipe is not None
    result = folder.trials / str(trial.job) / RESULT_FILE
    trained: dict[str, Any] = read_json(result).get("recipe") or {} if result.exists() else {}
    if not trained and measure_of(trial.recipe.sharing):
        raise StudyError(f"trial {trial.number} of study {folder.name} does not say how affinity grouped its tasks")
    return trained or trial.recipe.to_dict()
