"""The clock: whether another trial fits into a study's time budget, with room for running the best again after it."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from mtl_search.config.search_config import SearchConfig
from mtl_search.storage.files import read_json, write_json

MARGIN = 1.1
"""A stage may take so much longer than its like did."""


class Clock:
    """Counts the seconds of a study over all its runs.

    Args:
        budget: Seconds in all; None for no limit.
        file: Keeps what was used when the process ends.
    """

    def __init__(self, budget: float | None, file: Path) -> None:
        before = read_json(file) if file.exists() else {}
        self._started = time.monotonic() - before.get("seconds", 0.0)
        self._budget, self._file = budget, file

    def save(self) -> None:
        """Write down what was used."""
        write_json(self._file, {"seconds": time.monotonic() - self._started})

    def fits_another(self, trials: Sequence[FrozenTrial], ending: Callable[[float], float]) -> bool:
        """Whether a trial that starts now, and all that follows the search, ends in time.

        The longest complete trial says how long a trial takes. As long as no trial is complete nothing is known, and
        only the budget itself counts.

        Args:
            trials: Of the study.
            ending: Seconds of what follows the search, from those of the longest trial.
        """
        self.save()
        if self._budget is None:
            return True
        left = self._budget - (time.monotonic() - self._started)
        seconds = [t.user_attrs.get("seconds", 0.0) for t in trials if t.state is TrialState.COMPLETE]
        if not seconds:  # a study has one trial, however short its time
            return left > 0 or all(trial.state is TrialState.WAITING for trial in trials)
        return bool(left > MARGIN * (max(seconds) + ending(max(seconds))))


def seconds_of_ending(
    longest: float, epoch: float, epochs: tuple[int, int], groups: int, search: SearchConfig
) -> float:
    """Seconds of what follows a search: fresh runs of the best trials, single-task models on the same seeds, controls.

    Args:
        longest: Seconds of the longest trial.
        epoch: Seconds of an epoch of every task's single-task model, one after the other.
        epochs: Of the longest single-task and the longest joint schedule of the space.
        groups: Worker groups.
        search: How many trials are run again, how often, and on how many seeds baselines are chosen.
    """
    fresh, chosen_on, (alone, joint) = search.repeats.runs, search.baseline_seeds, epochs
    if not fresh:
        return 0.0
    # One recipe more than asked for: the cheapest that may be tied is run again too, after the others.
    rounds = math.ceil(search.repeats.trials * fresh / groups) + math.ceil(fresh / groups)
    # Both forms of the control where baselines are chosen, the longer one where they are measured.
    of_models = fresh * alone + chosen_on * (alone + 2 * joint) + fresh * (alone + joint)
    return longest * rounds + epoch * of_models / groups
