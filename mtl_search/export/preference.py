"""Preference: the model of a study's front that is best by a user's weights, and what the study knows of it.

`champion` loads the winner, or what is found here. The test split was read for the winner alone, so nothing here speaks
of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_search.errors import StudyError
from mtl_search.search.folder import StudyFolder
from mtl_search.search.outcome import Outcome
from mtl_search.search.pareto import Point, front, points_of, preferred


def preferred_outcome(
    folder: StudyFolder, written: Mapping[str, Any], weights: Mapping[str, float]
) -> tuple[dict[str, Any], Path | None]:
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
    point = preferred(front(points, objective.goals), weights)
    if (point.trial, point.epoch) == (outcome.number, outcome.best_epoch):
        return dict(written), None
    return _outcome_of(point, written, objective.improvement(point.metrics)), point.model


def _outcome_of(point: Point, written: Mapping[str, Any], improvement: float) -> dict[str, Any]:
    """The study's outcome with another model in the winner's place; what was measured of the winner alone goes."""
    result = point.result
    if "recipe" not in result:
        raise StudyError(f"trial {point.trial} was trained by an older version: only the winner can be exported")
    tasks = {}
    for name, task in written["tasks"].items():
        tasks[name] = task | {
            "validation": point.metrics[name],
            "gain": point.gains[name],
            "steps": {step: metrics[name] for step, metrics in result["steps"].items()},
            **dict.fromkeys(("test", "test_baseline", "test_gain", "repeated", "repeated_test")),
            "test_baseline_runs": [],
            "worse": False,
        }
    return {
        **written,
        "number": point.trial,
        "recipe": result["recipe"],
        "folder": str(point.folder),
        "improvement": improvement,
        "tasks": tasks,
        "best_epoch": point.epoch,
        "parameters": result["parameters"],
        "multiply_adds": result["multiply_adds"],
        **dict.fromkeys(("test_improvement", "repeated", "repeated_test", "challenger", "proposal")),
        "candidates": [],
        "ties": [],
    }
