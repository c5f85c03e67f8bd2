"""The scheduler that Ray Tune asks after each epoch of a trial: it passes the question on to the study's stopper.

Ray Tune keeps each trial with its last result until the search ends, 40 KiB a trial. The scheduler has it forget the
trials that ended: the study's record is in Optuna's storage.
"""

from typing import Any, final

from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import TrialScheduler

from mtl_search.search.job_trainable import EPOCH, METRIC, START
from mtl_search.search.stoppers import Stopping


class SilentProgress(TrialProgressCallback):
    """Stands where Tune would put one of its own that prints nothing at this verbosity, but keeps every trial."""

    def log_result(self, trial: Trial, result: dict[str, Any], error: bool = False) -> None:
        """Nothing."""

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Nothing."""


def trim_tune_memory(controller: Any) -> None:
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


@final
class StoppingScheduler(TrialScheduler):
    """Has Tune forget what has ended, and leaves to it which trial starts next: in the order in which they came.

    Tune's own schedulers name the oldest waiting trial. That one's process is starting; Tune would give it the process
    of a trial that has just ended and kill the one that starts, so that short trials would never get enough of them.

    Args:
        stopping: The study's stopper.
    """

    def __init__(self, stopping: Stopping) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._stopping = stopping
        self._metric = METRIC

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Ask the stopper. The last result of a trial says how it ended and holds no epoch."""
        if EPOCH not in result:
            return self.CONTINUE
        stops = self._stopping.stops(trial.trial_id, trial.config.get(START, ""), result[EPOCH], result[METRIC])
        return self.STOP if stops else self.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Let Tune forget the trials that ended before; this one Tune has still to stop."""
        trim_tune_memory(tune_controller)
        self._stopping.end(trial.trial_id, trial.config.get(START, ""))

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Nothing to do."""

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Nothing to do: Tune runs the trial again."""

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Nothing to do."""

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Leave the choice to Tune."""
        return None

    def debug_string(self) -> str:
        """What Tune would print."""
        return "stopper of the study"
