"""Stoppers by name: which trials end before their last epoch.

The rules are those of Ray Tune's schedulers, as plain objects: a search on Ray asks them through ``tune_scheduler``, a
search in one process asks them itself. A trial is compared with trials of the same start alone (``Jobs.start_of``). At
the same epoch a trial that starts from the base is behind one that starts from fine-tuned models, wherever the two end.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, final

import numpy as np
from annotated_types import Gt

from mtl_search.recipe import PositiveInt
from mtl_search.variants.registry import Registry

_COMPARED = 500
"""Ended trials that a median is taken over; the rule looks at every epoch of each."""


class StoppingRule(ABC):
    """Compares trials that start alike."""

    @abstractmethod
    def stops(self, trial: str, epoch: int, score: float) -> bool:
        """Hear of an epoch, and say whether the trial ends with it.

        Args:
            trial: Name of the trial.
            epoch: Number of the epoch.
            score: Best score of the trial so far; higher is better.
        """

    def end(self, trial: str) -> None:  # noqa: B027  most rules need not know
        """Hear that a trial has ended."""


@final
class Stopping:
    """A rule for the trials of each start, which knows nothing of the others.

    Args:
        make: Makes a rule.
    """

    def __init__(self, make: Callable[[], StoppingRule]) -> None:
        self._make, self._rules = make, dict[str, StoppingRule]()

    def stops(self, trial: str, start: str, epoch: int, score: float) -> bool:
        """Hear of an epoch, and say whether the trial ends with it.

        Args:
            trial: Name of the trial.
            start: What its joint training starts from.
            epoch: Number of the epoch.
            score: Best score of the trial so far; higher is better.
        """
        return self._of(start).stops(trial, epoch, score)

    def end(self, trial: str, start: str) -> None:
        """Hear that a trial has ended."""
        self._of(start).end(trial)

    def _of(self, start: str) -> StoppingRule:
        if start not in self._rules:
            self._rules[start] = self._make()
        return self._rules[start]


@final
class Rungs(StoppingRule):
    """The rule of ``Asha``.

    Args:
        grace: Epochs that every trial gets.
        reduction: One in so many trials goes on at a rung.
        epochs: The most epochs of a trial.
    """

    def __init__(self, grace: int, reduction: float, epochs: int) -> None:
        self._reduction = reduction
        # One epoch more than there is: a trial that reaches its end is complete, not stopped.
        count = int(np.log((epochs + 1) / grace) / np.log(reduction) + 1)
        self._rungs: list[tuple[float, dict[str, float]]] = [
            (grace * reduction**number, {}) for number in reversed(range(count))
        ]

    def stops(self, trial: str, epoch: int, score: float) -> bool:
        """Enter the highest rung that the trial has reached, and stop it where it is not among the best there."""
        stopped = self._enter(trial, epoch, score)
        if stopped:  # Tune tells its scheduler the last result of a stopped trial a second time
            self._enter(trial, epoch, score)
        return stopped

    def _enter(self, trial: str, epoch: int, score: float) -> bool:
        for milestone, recorded in self._rungs:
            if epoch >= milestone and trial not in recorded:
                cutoff = self._cutoff(list(recorded.values()))
                recorded[trial] = score
                return cutoff is not None and score < cutoff
        return False

    def _cutoff(self, recorded: list[float]) -> float | None:
        """The score below which a trial is stopped that comes after these.

        None where fewer have come than one of which goes on.
        """
        if not recorded or len(recorded) + 1 < self._reduction:
            return None
        return float(np.nanpercentile(recorded, (1 - 1 / self._reduction) * 100))


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving: at each rung only the best part of the trials goes on.

    Paper: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning".

    Attributes:
        grace: Epochs that every trial gets.
        reduction: One in so many trials goes on at a rung; before so many of one start have come, all do.
    """

    grace: PositiveInt = 1
    reduction: Annotated[float, Gt(1)] = 3.0

    def build(self, epochs: int) -> Stopping:
        """The rule for trials of at most so many epochs."""
        return Stopping(lambda: Rungs(self.grace, self.reduction, epochs))


@final
class BelowMedian(StoppingRule):
    """The rule of ``Median``; of ended trials it keeps some.

    Args:
        grace: Epochs that every trial gets.
        least: Trials needed to compare with.
    """

    def __init__(self, grace: int, least: int) -> None:
        self._grace, self._least = grace, least
        self._scores: dict[str, list[tuple[int, float]]] = {}
        self._ended: deque[str] = deque()

    def stops(self, trial: str, epoch: int, score: float) -> bool:
        """Compare the trial's best score with the median of the others' averages."""
        self._scores.setdefault(trial, []).append((epoch, score))
        if epoch < self._grace:
            return False
        others = [each for name, each in self._scores.items() if name != trial and each[-1][0] >= epoch]
        means = [mean for mean in (self._mean(each, epoch) for each in others) if np.isfinite(mean)]
        if len(means) < self._least:
            return False
        best, median = max(score for _, score in self._scores[trial]), float(np.median(means))
        return max(median, best) != best

    def _mean(self, scores: list[tuple[int, float]], epoch: int) -> float:
        inside = [score for each, score in scores if self._grace <= each <= epoch]
        return float(np.mean(inside)) if inside else float("nan")

    def end(self, trial: str) -> None:
        """Keep the trial among the latest that ended."""
        self._ended.append(trial)
        if len(self._ended) > _COMPARED:
            self._scores.pop(self._ended.popleft(), None)


@dataclass(frozen=True)
class Median:
    """Stops a trial whose best score falls below the median of the others' averages at the same epoch.

    Paper: Golovin et al. 2017, "Google Vizier: A Service for Black-Box Optimization".

    Attributes:
        grace: Epochs that every trial gets.
        least: Trials needed to compare with.
    """

    grace: PositiveInt = 1
    least: PositiveInt = 3

    def build(self, epochs: int) -> Stopping:
        """The rule; it needs no number of epochs."""
        return Stopping(lambda: BelowMedian(self.grace, self.least))


@final
class NoRule(StoppingRule):
    """The rule of ``Never``."""

    def stops(self, trial: str, epoch: int, score: float) -> bool:
        """Never."""
        return False


@dataclass(frozen=True)
class Never:
    """Every trial runs to its last epoch."""

    def build(self, epochs: int) -> Stopping:
        """The rule; it needs no number of epochs."""
        return Stopping(NoRule)


STOPPERS: Registry[Any] = Registry(
    "mtl_search.search", {"asha": "stoppers:Asha", "median": "stoppers:Median", "none": "stoppers:Never"}
)
"""Stopper by its name in ``search.stopper``."""
