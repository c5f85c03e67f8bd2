"""The clock: whether another trial fits into a study's time budget, with room for running the best again after it."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from mtl_search.search_config import RepeatsConfig
from mtl_search.training.files import read_json, write_json

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
        self._alone = before.get("baselines", 0.0)

    def save(self) -> None:
        """Write down what was used."""
        write_json(self._file, {"seconds": time.monotonic() - self._started, "baselines": self._alone})

    @contextmanager
    def baselines(self) -> Iterator[None]:
        """Takes the time of training the baselines; that of an earlier run counts where they are found again."""
        started = time.monotonic()
        yield
        self._alone = max(self._alone, time.monotonic() - started)

    def fits_another(self, trials: Sequence[FrozenTrial], groups: int, repeats: RepeatsConfig) -> bool:
        """Whether a trial that starts now, and all that follows the search, ends in time.

        The longest complete trial says how long a trial takes, the baselines how long single-task models of fresh
        seeds do. As long as no trial is complete nothing is known, and only the budget itself counts.

        Args:
            trials: Of the study.
            groups: Worker groups.
            repeats: What is run again.
        """
        self.save()
        if self._budget is None:
            return True
        left = self._budget - (time.monotonic() - self._started)
        seconds = [t.user_attrs.get("seconds", 0.0) for t in trials if t.state is TrialState.COMPLETE]
        if not seconds:  # a study has one trial, however short its time
            return left > 0 or all(trial.state is TrialState.WAITING for trial in trials)
        # One recipe more than asked for: the cheapest that may be tied is run again too, after the others.
        rounds = math.ceil(repeats.trials * repeats.runs / groups) + math.ceil(repeats.runs / groups)
        return bool(left > MARGIN * (max(seconds) + self._alone + max(seconds) * rounds))
