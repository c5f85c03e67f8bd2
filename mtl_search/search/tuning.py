"""Tuning: Ray Tune as a study uses it: it runs light trials that follow the pool's jobs, and stops those that lag.

Between ``study`` and Ray Tune. What is tried comes from the searcher, what is trained happens in the pool.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE

from mtl_search.pool.queue_client import JobQueueClient
from mtl_search.search.job_trainable import JobTrainable
from mtl_search.search.searcher import ANY_NUMBER, MOST_DEATHS, OptunaSearcher
from mtl_search.search.stoppers import Stopping
from mtl_search.search.tune_scheduler import SilentProgress, StoppingScheduler
from mtl_search.search.tune_searcher import TuneSearcher


class _Watch(tune.Callback):
    """Ends the search where its story cannot be written: Tune would take that for a fault of the trial."""

    def __init__(self, searcher: OptunaSearcher) -> None:
        self._searcher = searcher

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks for a restore that this project does not use; a searcher stays in its process."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Raise what the searcher met."""
        self._searcher.check()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Raise what it met with the last trial: no step follows on that."""
        self._searcher.check()


def tuner_of(
    searcher: OptunaSearcher,
    stopping: Stopping,
    trial: Mapping[str, float],
    queue: JobQueueClient,
    folder: Path,
) -> tune.Tuner:
    """Ray's tuner for one run of a search.

    Args:
        searcher: Says what is tried, how many trials run side by side, and when there are no more.
        stopping: Ends trials early.
        trial: What one light trial asks of Ray.
        queue: The job queue.
        folder: Where Ray Tune keeps its run files.
    """
    # Tune would hand them to every trial's process by way of Ray's records and logs; a light trial needs none.
    ENV_VARS_TO_PROPAGATE.difference_update({name for name in ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")})
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(JobTrainable, queue=queue), tune.PlacementGroupFactory([dict(trial)])),
        tune_config=tune.TuneConfig(
            search_alg=TuneSearcher(searcher),
            scheduler=StoppingScheduler(stopping),
            num_samples=ANY_NUMBER,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            verbose=0,
            # There is nothing to keep of a light trial, and its node may not see the driver's folder.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=MOST_DEATHS),
            callbacks=[SilentProgress(), _Watch(searcher)],
        ),
    )
