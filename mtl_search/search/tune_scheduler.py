"""The scheduler that Ray Tune asks after each epoch of a trial: it passes the question on to the study's stopper."""

from typing import Any, final

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from mtl_search.search.forgetting import forget_ended
from mtl_search.search.stoppers import Stopping
from mtl_search.search.trainable import EPOCH, METRIC, START


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
        forget_ended(tune_controller)
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
