"""Schedulers: Ray Tune's, as the variants of `stoppers` build them.

A trial is compared with trials of the same start alone (``Jobs.start_of``). At the same epoch a trial that starts from
the base is behind one that starts from fine-tuned models, wherever the two end.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.schedulers.async_hyperband import _Bracket

from mtl_search.search.forgetting import forget_ended
from mtl_search.search.trainable import EPOCH, METRIC, START

_COMPARED = 500
"""Ended trials that a median is taken over; the rule looks at every result of each."""


class _Lean(TrialScheduler):
    """Has Tune forget what has ended, and leaves to it which trial starts next: in the order in which they came.

    Tune's own schedulers name the oldest waiting trial. That one's process is starting; Tune would give it the process
    of a trial that has just ended and kill the one that starts, so that short trials would never get enough of them.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        return None

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: Any) -> None:
        forget_ended(tune_controller)  # not this one yet: Tune has still to stop it
        super().on_trial_complete(tune_controller, trial, result)


class _Rungs(_Bracket):
    """Tune's rungs, on which nobody is stopped before as many have come as one of which goes on."""

    def cutoff(self, recorded: Mapping[str, float]) -> Any:
        """The score below which a trial is stopped that comes after those recorded; None for no such score."""
        return None if len(recorded) + 1 < self.rf else super().cutoff(recorded)


class _Asha(_Lean, AsyncHyperBandScheduler):
    """Tune's scheduler for trials of at most so many epochs."""

    def __init__(self, grace: int, reduction: float, epochs: int) -> None:
        # One epoch more than there is: a trial that reaches its end is complete, not stopped.
        longest = epochs + 1
        super().__init__(EPOCH, METRIC, "max", longest, grace, reduction)
        self._brackets = [_Rungs(grace, longest, reduction, 0)]


class _Never(_Lean, FIFOScheduler):
    pass


class _ByStart(TrialScheduler):
    """A scheduler for the trials of each start, which knows nothing of the others.

    Args:
        make: Makes one.
    """

    def __init__(self, make: Callable[[], TrialScheduler]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._make, self._schedulers = make, dict[str, TrialScheduler]()
        self._metric = METRIC

    def _of(self, trial: Trial) -> TrialScheduler:
        start = trial.config.get(START, "")
        if start not in self._schedulers:
            self._schedulers[start] = self._make()
        return self._schedulers[start]

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self._of(trial).on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        return self._of(trial).on_trial_result(tune_controller, trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self._of(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self._of(trial).on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        return None  # as the schedulers themselves

    def debug_string(self) -> str:
        return "\n".join(scheduler.debug_string() for scheduler in self._schedulers.values())


class _MedianRule(_Lean, MedianStoppingRule):
    """Tune's rule, for trials whose last result says how they ended and holds no epoch; of ended ones it keeps some."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._ended: deque[Any] = deque()

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Any) -> None:
        forget_ended(tune_controller)
        self._stopped_trials.discard(trial)
        self._ended.append(trial)
        if len(self._ended) > _COMPARED:
            self._results.pop(self._ended.popleft(), None)


def successive_halving(grace: int, reduction: float, epochs: int) -> TrialScheduler:
    """The scheduler of `stoppers.Asha` for trials of at most so many epochs."""
    return _ByStart(lambda: _Asha(grace, reduction, epochs))


def median_rule(grace: int, least: int) -> TrialScheduler:
    """The scheduler of `stoppers.Median`."""
    return _ByStart(
        lambda: _MedianRule(
            time_attr=EPOCH,
            metric=METRIC,
            mode="max",
            grace_period=grace,
            min_samples_required=least,
            # Never pause a trial to let others catch up: its worker group would wait, and nobody would wake it. A
            # number is not enough: before its first pause a trial counts as having run for ever.
            min_time_slice=math.inf,
        )
    )


def never_stop() -> TrialScheduler:
    """The scheduler of `stoppers.Never`."""
    scheduler: TrialScheduler = _Never()  # type: ignore[no-untyped-call]
    scheduler.set_search_properties(METRIC, "max")
    return scheduler
