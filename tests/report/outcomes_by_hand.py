"""Outcomes made by hand, with every field that a study may fill."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_studies import recipe

from mtl_search.config.study_config import StudyConfig
from mtl_search.results.outcome import Candidate, Outcome, Proposal, TaskOutcome
from mtl_search.results.statistics import Estimate
from mtl_search.storage.files import write_json
from mtl_search.study_store.folder import StudyFolder


def task(gain: float, *, worse: bool = False, repeated: bool = True, **fields: Any) -> TaskOutcome:
    """A task judged by accuracy, 0.8 alone."""
    estimate = Estimate(gain, 0.4, gain - 1, gain + 1, 3) if repeated else None
    known: dict[str, Any] = {
        "metric": "accuracy",
        "higher_is_better": True,
        "validation": 0.8 * (1 + gain / 100),
        "baseline": 0.8,
        "gain": gain,
        "test": 0.81,
        "test_baseline": 0.8,
        "test_gain": 1.25,
        "steps": {"base": 0.1, "single": 0.8, "fused": 0.5, "joint": 0.81},
        "baseline_runs": (0.79, 0.81),
        "repeated": estimate,
        "repeated_test": estimate,
        "worse": worse,
    }
    return TaskOutcome(**{**known, **fields})


def outcome(gains: Sequence[float], *, repeated: bool = True, **fields: Any) -> Outcome:
    """Trial 5 won; tasks that lose more than 2 % raise the alarm where it was run again."""
    tasks = {
        f"task_{number}": task(gain, worse=repeated and gain < -2, repeated=repeated)
        for number, gain in enumerate(gains)
    }
    known: dict[str, Any] = {
        "number": 5,
        "recipe": recipe().to_dict(),
        "folder": "/somewhere/trials/abc",
        "improvement": 1.5,
        "test_improvement": 0.9,
        "tasks": tasks,
        "best_epoch": 4,
        "parameters": 1000,
        "single_parameters": 2000,
        "multiply_adds": 900,
        "single_multiply_adds": 1800,
    }
    if repeated:
        known |= {
            "repeated": Estimate(1.2, 0.3, 0.4, 2.0, 3),
            "repeated_test": Estimate(0.7, 0.3, -0.1, 1.5, 3),
            "candidates": (
                Candidate(5, "/a", 1.5, Estimate(1.2, 0.3, 0.4, 2.0, 3), 1000, 2.0, True),
                Candidate(2, "/b", 1.4, Estimate(1.0, 0.2, 0.2, 1.8, 3), 500, 1.0, True),
                Candidate(7, "/c", 1.3, Estimate(-1.0, 0.2, -1.8, -0.2, 3), 400, 1.0, False),
            ),
            "ties": (5, 2, 9),
            "challenger": 2,
            "proposal": Proposal((("task_0",), ("task_1", "task_2")), 1800) if min(gains) < -2 else None,
        }
    return Outcome(**{**known, **fields})


def finished(storage: Path, name: str, found: Outcome | None, **changes: Any) -> StudyFolder:
    """The folder of a study on iris that found this, or has not ended.

    Args:
        storage: Where it lies.
        name: Its name.
        found: Its outcome.
        changes: ``seed`` of the study, ``key`` of its data, ``metric`` of its tasks, ``tasks`` by number.
    """
    numbers = range(len(found.tasks) if found else 1)
    tasks = [f"task_{number}" for number in changes.get("tasks", numbers)]
    config = {
        "name": name,
        "data": {"source": {"sklearn": {"name": "iris"}}},
        "tasks": {task: {"kind": "classification", "target": "target"} for task in tasks},
        "backbone": "mlp",
        "seed": changes.get("seed", 0),
    }
    known = {"kind": "classification", "dataset": "main", "target": "target", "labels": ["a", "b"]}
    metric = {"name": changes.get("metric", "accuracy"), "params": {}}
    folder = StudyFolder(storage, name)
    folder.path.mkdir(parents=True)
    write_json(folder.config_file, StudyConfig.model_validate(config).model_dump(mode="json"))
    card = [{**known, "name": task, "metric": metric} for task in tasks]
    rows = {"train": {"main": 90}}
    plain = {"tasks": card, "source_tasks": [], "description": {"rows": rows}, "key": changes.get("key", "iris")}
    write_json(folder.data_file, plain)
    if found is not None:
        write_json(folder.outcome_file, found.to_dict())
    return folder
