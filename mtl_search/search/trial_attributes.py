"""Notes: what a trial came to, as user attributes of Optuna's.

The searcher writes them when a trial ends; ``record`` reads them.
"""

from optuna.trial import FrozenTrial, Trial

from mtl_search.storage.reports import StageResult

_MEASURED = (
    "metrics",
    "steps",
    "best_epoch",
    "parameters",
    "multiply_adds",
    "epoch_seconds",
    "worker_seconds",
    "peak_mib",
)
_COPIED = {*_MEASURED, "job", "score"}
"""What a trial takes over from a finished one with the same recipe."""


def set_result_attributes(trial: Trial, result: StageResult, job: str) -> None:
    """Keep what a finished job measured.

    Args:
        trial: Still running.
        result: The job's result; one kept by an earlier version knows less.
        job: Its key.
    """
    for name in _MEASURED:
        if (value := getattr(result, name)) is not None:
            trial.set_user_attr(name, value)
    trial.set_user_attr("job", job)
    trial.set_user_attr("score", result.best_score)


def set_duplicate_attributes(trial: Trial, earlier: FrozenTrial) -> None:
    """Take over the notes and the way of a finished trial with the same recipe."""
    for name in _COPIED & earlier.user_attrs.keys():
        trial.set_user_attr(name, earlier.user_attrs[name])
    trial.set_user_attr("duplicate_of", earlier.number)
    for step, value in earlier.intermediate_values.items():
        trial.report(value, step)
