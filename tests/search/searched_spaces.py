"""Small spaces to search without any training, and a watcher that keeps what it hears."""

from collections.abc import Mapping
from typing import Any

from mtl_search.catalog import FAMILIES
from mtl_search.recipe import Recipe
from mtl_search.search.record import TrialRecord
from mtl_search.space import SearchSpace
from mtl_search.training.reports import EpochReport

TASKS = ["digit", "ink"]
SPACE: Mapping[str, Any] = {
    "sharing": {"hard": {"depth": {"int": [1, 3], "default": 2}}},
    "fusion": ["mean", {"weighted": {"coefficients": {"float": [0.1, 1.0]}}}],
    "weighting": {"fixed": {"log_ratio": {"float": [-2.0, 2.0], "default": 1.0}}},
}
COARSE: Mapping[str, Any] = {"sharing": {"hard": {"depth": {"choice": [1, 2]}}}}
NO_PLAIN: Mapping[str, Any] = {
    "fusion": {"weighted": {"coefficients": {"float": [0.1, 1.0]}}},
    "weighting": {"fixed": {"log_ratio": {"float": [1.0, 2.0]}}},
}


def space_of(raw: Mapping[str, Any]) -> SearchSpace:
    space, problems = SearchSpace.parse(raw, FAMILIES, TASKS)
    assert problems == []
    assert space is not None
    return space


class Listener:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.epochs: list[tuple[int, int]] = []
        self.ended: list[TrialRecord] = []

    def trial_started(self, number: int, recipe: Recipe) -> None:
        self.started.append(number)

    def trial_reported(self, number: int, report: EpochReport) -> None:
        self.epochs.append((number, report.epoch))

    def trial_ended(self, trial: TrialRecord) -> None:
        self.ended.append(trial)
