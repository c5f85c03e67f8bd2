"""Others: the model of another trial than the winner, by number or by a user's weights, and what is known of it.

`champion` loads the winner, or what is found here. The test split was read for the winner alone, so nothing here speaks
of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtl_search.analysis.pareto import Point, pareto_front, pick_preferred, points_of
from mtl_search.errors import StudyError
from mtl_search.results.outcome import Outcome
from mtl_search.storage.paths import StoragePath
from mtl_search.study_store.folder import StudyFolder


def preferred_outcome(
    folder: StudyFolder, written: Mapping[str, Any], weights: Mapping[str, float]
) -> tuple[dict[str, Any], StoragePath | None]:
    """What is known of the model that a preference picks.

    Args:
        folder: The study's.
        written: The study's outcome, as it was written.
        weights: By task, see ``search.pareto.preferred``.

    Returns:
        The outcome of that model, its test figures None, and the file with its parameters (None where it is the
        winner: then the outcome is the study's).

    Raises:
        StudyError: No model is left, or an older version made it.
        ConfigError: The weights break a rule.
    """
    outcome = Outcome.from_dict(written)
    objective = outcome.objective
    points = points_of(folder, folder.records(folder.read_config().search.storage), objective)
    if not points:
        raise StudyError(f"study {folder.name} has no model left to choose from: none in {folder.trials}")
    point = pick_preferred(pareto_front(points, objective.goals), weights)
    if (point.trial, point.epoch) == (outcome.number, outcome.best_epoch):
        return dict(written), None
    return _outcome_of(point, written, objective.improvement(point.metrics)), point.model


def outcome_of_trial(
    folder: StudyFolder, written: Mapping[str, Any], number: int
) -> tuple[dict[str, Any], StoragePath | None]:
    """What is known of the model that a trial left.

    Args:
        folder: The study's.
        written: The study's outcome, as it was written.
        number: The trial.

    Returns:
        As ``preferred_outcome``.

    Raises:
        StudyError: The trial left no model, or an older version made it.
    """
    objective = Outcome.from_dict(written).objective
    points = points_of(folder, folder.records(folder.read_config().search.storage), objective)
    point = next((point for point in points if point.trial == number), None)
    if point is None:
        raise StudyError(f"study {folder.name} has no model of trial {number} in {folder.trials}")
    return _outcome_of(point, written, objective.improvement(point.metrics)), point.model


def _outcome_of(point: Point, written: Mapping[str, Any], improvement: float) -> dict[str, Any]:
    """The study's outcome with another model in the winner's place; what was measured of the winner alone goes."""
    result = point.result
    if result.recipe is None:
        raise StudyError(f"trial {point.trial} was trained by an older version: only the winner can be exported")
    tasks = {}
    for name, task in written["tasks"].items():
        tasks[name] = task | {
            "validation": point.metrics[name],
            "gain": point.gains[name],
            "steps": {step: metrics[name] for step, metrics in result.steps.items()},
            **dict.fromkeys(("test", "test_baseline", "test_gain", "repeated", "repeated_test", "rows_test")),
            "test_baseline_runs": [],
            "worse": None,  # nobody has looked
        }
    repeated = {candidate["number"]: candidate["repeated"] for candidate in written.get("candidates", ())}
    return {
        **written,
        "number": point.trial,
        "recipe": dict(result.recipe),
        "folder": str(point.folder),
        "improvement": improvement,
        "tasks": tasks,
        "best_epoch": point.epoch,
        "parameters": result.parameters,
        "multiply_adds": result.multiply_adds or 0,
        "repeated": repeated.get(point.trial),
        **dict.fromkeys(("test_improvement", "repeated_test", "rows_test", "first_improvement")),
        **dict.fromkeys(("challenger", "proposal", "reach")),
        "candidates": [],
        "ties": [],
        "alike": [],
    }
