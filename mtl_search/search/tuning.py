"""Tuning: Ray Tune as a study uses it: it runs light trials that follow the pool's jobs, and stops those that lag.

Between ``study`` and Ray Tune. What is tried comes from the searcher, what is trained happens in the pool.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE

from mtl_search.errors import MtlSearchError, StudyError
from mtl_search.recipe import Component
from mtl_search.search.forgetting import Silent
from mtl_search.search.searcher import ANY_NUMBER, MOST_DEATHS, OptunaSearcher
from mtl_search.search.stoppers import STOPPERS
from mtl_search.search.trainable import Follower
from mtl_search.variants import build


class _Watch(tune.Callback):
    """Ends the search where its story cannot be written: Tune would take that for a fault of the trial."""

    def __init__(self, searcher: OptunaSearcher) -> None:
        self._searcher = searcher

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Raise what the searcher met."""
        self._check()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Raise what it met with the last trial: no step follows on that."""
        self._check()

    def _check(self) -> None:
        trouble = self._searcher.trouble
        if isinstance(trouble, MtlSearchError):
            raise trouble
        if trouble is not None:
            raise StudyError(
                f"what became of a trial cannot be written ({type(trouble).__name__}: {trouble}); nothing finished is "
                "lost, go on with --resume"
            ) from trouble


def tuner_of(
    searcher: OptunaSearcher,
    stopper: Component,
    longest: int,
    trial: Mapping[str, float],
    mailbox: Any,
    folder: Path,
) -> tune.Tuner:
    """Ray's tuner for one run of a search.

    Args:
        searcher: Says what is tried, how many trials run side by side, and when there are no more.
        stopper: Variant of ``STOPPERS``.
        longest: Epochs of the longest joint training in the space.
        trial: What one light trial asks of Ray.
        mailbox: Handle of the dispatcher.
        folder: Where Ray Tune keeps its run files.
    """
    # Tune would hand them to every trial's process by way of Ray's records and logs; a light trial needs none.
    ENV_VARS_TO_PROPAGATE.difference_update({name for name in ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")})
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(Follower, mailbox=mailbox), tune.PlacementGroupFactory([dict(trial)])),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=build(STOPPERS, stopper).build(max(longest, 1)),
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
            callbacks=[Silent(), _Watch(searcher)],
        ),
    )
