"""The Tune trial: follows one job in the job queue and passes its epochs on. It trains nothing and imports no torch."""

from collections import deque
from dataclasses import replace
from typing import Any

from ray import tune
from ray.exceptions import RayActorError

from mtl_search.pool.jobs import JobState, Update
from mtl_search.pool.queue_client import JobQueueClient
from mtl_search.storage.reports import EpochReport

METRIC = "objective"
"""Key of the best score so far; higher is better."""
EPOCH = "epoch"
NEWS = "news"
"""Key of the ``Update`` itself: an object, since Tune takes plain mappings apart."""
START = "start"
"""Key in a trial's config of what its joint training starts from, see ``stoppers``."""
FOLLOW_SECONDS = 10.0
"""Length of one long poll for news of the job."""


class JobTrainable(tune.Trainable):
    """Returns one result per epoch of the job that its config names, then one with how the job ended.

    A process that died and came back is told the epochs from the start.
    """

    def setup(self, config: dict[str, Any], queue: JobQueueClient | None = None) -> None:
        """Begin with the first job.

        Args:
            config: ``job``: the key. The rest is for the stopper.
            queue: The job queue.
        """
        assert queue is not None
        self._queue = queue
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin with the next job in the same process."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._key: str = config["job"]
        self._awaited = 0
        self._reports: deque[EpochReport] = deque()
        self._last_epoch = -1
        self._end: Update | None = None

    def step(self) -> dict[str, Any]:
        """Wait for the next epoch, or for the end."""
        while not self._reports and self._end is None:
            self._on_report(self._news())
        if self._reports:
            report = self._reports.popleft()
            news = Update([report], JobState.RUNNING)
            return {EPOCH: report.epoch, METRIC: report.best_score, NEWS: news}
        assert self._end is not None
        return {NEWS: replace(self._end, reports=[]), "done": True}

    def _news(self) -> Update:
        try:
            return self._queue.follow(self._key, self._awaited, FOLLOW_SECONDS)
        except RayActorError:
            return Update(state=JobState.CANCELLED, reason="the process that hands out the jobs has died")

    def _on_report(self, update: Update) -> None:
        reports = list(update.reports)
        if reports:
            self._awaited = reports[-1].epoch + 1
        if update.state.ended:
            self._end = update
            # A job found finished on disk, or resumed under a new job queue, tells its epochs only in its result.
            reports += update.result.history if update.result is not None else ()
        for report in reports:
            if report.epoch > self._last_epoch:
                self._last_epoch = report.epoch
                self._reports.append(report)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to keep: the job's state is in the job queue and in its own checkpoint."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing to load, see ``save_checkpoint``."""
