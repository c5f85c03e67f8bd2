"""Forgetting: what Ray Tune keeps of an ended trial is let go; the study's record is in Optuna's storage.

Tune holds every trial and a text of its state, to restore an experiment, until the search ends: 10 KiB a trial, and
each of its looks at all trials takes longer. Called by the stoppers' schedulers: Tune gives its controller to no other.
"""

from typing import Any


def forget_ended(controller: Any) -> None:
    """Let Tune's controller forget each trial that it has done with.

    Args:
        controller: A ``TuneController``; Ray hands it to schedulers when a trial ends.
    """
    ended = controller._stopped_trials
    for trial in ended:
        controller._trial_metadata.pop(trial.trial_id, None)
    controller._trials_to_cache -= ended
    controller._trials[:] = [trial for trial in controller._trials if trial not in ended]
    ended.clear()
