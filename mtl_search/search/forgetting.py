"""Forgetting: what Ray Tune keeps of an ended trial is let go; the study's record is in Optuna's storage.

Tune holds every trial with its last result and running statistics of each metric until the search ends: 60 KiB a trial,
and each of its looks at all trials takes longer.
"""

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial


class Forgetting(Callback):
    """Empties trials that have ended and takes them off Tune's list, once Tune has done with them."""

    def __init__(self) -> None:
        self._ended: list[Trial] = []

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note an ended trial; Tune still looks at it in this step."""
        self._ended.append(trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Let go of what has ended."""
        for trial in self._ended:
            trial.run_metadata.last_result = {}
            trial.metric_analysis.clear()
            trial.metric_n_steps.clear()
            if trial in trials:
                trials.remove(trial)
        self._ended.clear()
