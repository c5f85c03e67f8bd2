"""Forgetting: what Ray Tune keeps of an ended trial is let go; the study's record is in Optuna's storage.

Tune holds every trial with its last result, and a text of its state to restore an experiment, until the search ends:
40 KiB a trial, and each of its looks at all trials takes longer.
"""

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback


class Silent(TrialProgressCallback):
    """Stands where Tune would put one of its own that prints nothing at this verbosity, but keeps every trial."""

    def log_result(self, trial: Trial, result: dict[str, Any], error: bool = False) -> None:
        """Nothing."""

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Nothing."""


def forget_ended(controller: Any) -> None:
    """Let Tune's controller forget each trial that it has done with; the stoppers' schedulers do, which alone know it.

    Args:
        controller: A ``TuneController``; Ray hands it to schedulers when a trial ends.
    """
    ended = controller._stopped_trials
    for trial in ended:
        controller._trial_metadata.pop(trial.trial_id, None)
    controller._trials_to_cache -= ended
    controller._trials[:] = [trial for trial in controller._trials if trial not in ended]
    ended.clear()
