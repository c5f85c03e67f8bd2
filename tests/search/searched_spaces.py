"""Small spaces to search without any training: a runner whose trials are played by the test, and a callback that
keeps what it is told.
"""

from collections.abc import Callable, Mapping
from typing import Any

from mtl_search.recipe import Recipe
from mtl_search.results.trial_record import TrialRecord
from mtl_search.search.callbacks import Callback, EpochEnded, RunEvent, RunStarted, TrialEnded, TrialRun
from mtl_search.space.search_space import SearchSpace
from mtl_search.storage.reports import StageResult
from mtl_search.validation.study_file import FAMILIES

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


class Listener(Callback):
    """Keeps what it is told of trials."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.epochs: list[tuple[int, int]] = []
        self.ended: list[TrialRecord] = []

    def on_run(self, event: RunEvent) -> None:
        match event:
            case RunStarted(TrialRun(number), _):
                self.started.append(number)
            case EpochEnded(TrialRun(number), report):
                self.epochs.append((number, report.epoch))
            case TrialEnded(trial):
                self.ended.append(trial)


class PlayedRunner:
    """Submits nothing (a ``search.trial_runner.TrialRunner``): the test says how each trial goes.

    Args:
        size: Worker groups.
        key_of: A recipe's job key.
        start_of: What a recipe's joint training starts from.
    """

    def __init__(
        self,
        size: int = 100,
        key_of: Callable[[Recipe], str] = lambda recipe: recipe.key,
        start_of: Callable[[Recipe], str] = lambda _: "",
    ) -> None:
        self.size = size
        self.submitted: list[Recipe] = []
        self.released: list[str] = []
        self._key_of, self._start_of = key_of, start_of

    def has_time(self) -> bool:
        return True

    def refusal(self, recipe: Recipe) -> str:
        return ""

    def submit(self, recipe: Recipe) -> str:
        self.submitted.append(recipe)
        return self._key_of(recipe)

    def start_of(self, recipe: Recipe) -> str:
        return self._start_of(recipe)

    def release(self, key: str) -> None:
        self.released.append(key)

    def values(self, result: StageResult) -> list[float]:
        return [result.best_score]
