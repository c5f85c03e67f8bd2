"""The document: a study as one JSON document for scripts, printed by ``search --json`` and ``report --json``."""

import json
import math
from collections.abc import Mapping
from typing import Any

from mtl_search.results.outcome import Outcome
from mtl_search.results.trial_record import TrialRecord
from mtl_search.study_store.folder import StudyFolder


def study_document(folder: StudyFolder) -> dict[str, Any]:
    """A study, its trials and what it found.

    Returns:
        ``study``: ``name``, ``folder``, ``ended``, ``objective``, ``budget`` (in words), ``seed``, ``backbone``, and
        ``tasks`` (name to kind). ``trials``: fields of ``search.record.TrialRecord``, the recipe in the form of the
        study file's ``space``. ``outcome``: fields of ``search.outcome.Outcome`` and its ``optimism`` and ``worse``;
        None before the study has ended.

    Raises:
        StudyError: There is no such study.
    """
    config, written = folder.read_config(), folder.read_outcome()
    return {
        "study": {
            "name": config.name,
            "folder": str(folder.path),
            "ended": written is not None,
            "objective": config.search.objective,
            "budget": config.search.budget,
            "seed": config.seed,
            "backbone": config.backbone.to_dict(),
            "tasks": {name: task.kind for name, task in config.tasks.items()},
        },
        "trials": [_trial(trial) for trial in folder.records(config.search.storage)],
        "outcome": None if written is None else outcome_document(Outcome.from_dict(written)),
    }


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """An outcome with what follows from its fields."""
    return {**outcome.to_dict(), "optimism": outcome.optimism, "worse": list(outcome.worse)}


def to_json(document: Mapping[str, Any]) -> str:
    """A document as text; numbers that are not finite become null, since JSON has none of them."""
    return json.dumps(_finite(document), indent=1, ensure_ascii=False, allow_nan=False)


def _trial(trial: TrialRecord) -> dict[str, Any]:
    plain = {name: value for name, value in vars(trial).items() if name != "recipe"}
    return {**plain, "recipe": None if trial.recipe is None else trial.recipe.to_dict()}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
