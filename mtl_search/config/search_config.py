"""SearchConfig: the ``search`` section of a study file."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mtl_search.config.fields import Section, Variant
from mtl_search.recipe import Component, Count, CountOrZero, PositiveInt

MEAN_IMPROVEMENT = "mean_improvement"
WORST_TASK = "worst_task"
RELIABILITY: Literal["reliability"] = "reliability"
EQUAL: Literal["equal"] = "equal"
JOURNAL = "journal"
_TRIALS = 20
"""Trials of a study that names neither number nor time."""
_NUMBER = r"(\d+(?:\.\d+)?)"
_SPAN = re.compile(rf"(?:{_NUMBER}\s*h)?\s*(?:{_NUMBER}\s*m(?:in)?)?\s*(?:{_NUMBER}\s*s)?")


def _check_storage(storage: str) -> str:
    if storage != JOURNAL and "://" not in storage:
        raise ValueError(f"must be '{JOURNAL}' (a file in the study's folder) or a database URL")
    return storage


def seconds_of(span: str) -> float:
    """Seconds of a time span such as ``90m`` or ``1h 30m``.

    Raises:
        ValueError: It has another form.
    """
    found = _SPAN.fullmatch(span.strip())
    if found is None or not any(found.groups()):
        raise ValueError("must be hours or minutes, such as 2h, 90m or 1h 30m")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    total = 3600 * hours + 60 * minutes + seconds
    if not total:
        raise ValueError("must be longer than nothing")
    return total


def _check_span(span: object) -> object:
    seconds_of(span if isinstance(span, str) else "")
    return span


TimeSpan = Annotated[str, BeforeValidator(_check_span)]


class RepeatsConfig(Section):
    """Which trials are run again over fresh seeds before one of them is called the winner; 0 runs for none."""

    trials: Count = 3
    runs: CountOrZero = 3


class BaselineConfig(Section):
    """The search that single-task models get of their own: ``tune`` schedules for each task; 0 for none."""

    tune: CountOrZero = 0


class SearchConfig(Section):
    """How the space is searched: until the trials or the time are used up, whichever is first.

    With a list of tasks as ``objective`` the search looks for their Pareto front, and stops no trial early.
    ``objective_weights`` says how much each task's gain counts in the mean: by its reliability, equally, or as given
    (a task that is not named counts 1).
    """

    trials: PositiveInt | None = None
    time_budget: TimeSpan | None = None
    baseline_seeds: Count = 3
    baseline: BaselineConfig = BaselineConfig()
    repeats: RepeatsConfig = RepeatsConfig()
    sampler: Variant = Component("tpe")
    stopper: Variant = Component("asha")
    objective: str | Annotated[list[str], Field(min_length=2)] = MEAN_IMPROVEMENT
    objective_weights: Literal["reliability", "equal"] | dict[str, float] = RELIABILITY
    storage: Annotated[str, AfterValidator(_check_storage)] = JOURNAL

    @model_validator(mode="before")
    @classmethod
    def _stop_none_for_a_front(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping) and isinstance(raw.get("objective"), list):
            return {"stopper": "none", **raw}
        return raw

    @property
    def most_trials(self) -> int | None:
        """Trials in all; None where the time alone is the limit."""
        return self.trials or (_TRIALS if self.time_budget is None else None)

    @property
    def seconds(self) -> float | None:
        """The time budget; None for no limit."""
        return None if self.time_budget is None else seconds_of(self.time_budget)

    @property
    def budget(self) -> str:
        """Both limits in words."""
        trials = [] if self.most_trials is None else [f"{self.most_trials} trials"]
        return " or ".join([*trials, *([self.time_budget] if self.time_budget is not None else [])])

    @property
    def objectives(self) -> tuple[str, ...]:
        """What Optuna maximises; tasks where there are several."""
        return (self.objective,) if isinstance(self.objective, str) else tuple(self.objective)

    @property
    def kind(self) -> str:
        """What picks a trial's best epoch and the winner."""
        return self.objective if isinstance(self.objective, str) else MEAN_IMPROVEMENT
