"""Drivers: several on one study, each with its own pool; they know of each other through Optuna's storage alone.

Each beats there and marks its trials as its own. One whose beat stops has died: another takes over its trials. Who
concludes is decided by a trial that nobody trains: trials are numbered in one order, whatever the storage is.
"""

import logging
import os
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Self

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from mtl_search.recipe import Recipe
from mtl_search.results.trial_record import INTERRUPTED, REFUSED, TrialRecord
from mtl_search.search.callbacks import Callback, RunStarted, TrialEnded, TrialRun
from mtl_search.search.requeue import DRIVER, requeue_trial

HEARTBEAT_SECONDS = 3.0
PATIENCE = 30.0
"""Seconds without a beat after which a driver is taken for dead; each by its own clock, so clocks may differ."""
_AWAY = 15.0
"""Seconds without a beat of its own that gets through, after which a driver knows nothing of the others."""
_BEAT, _CONCLUDED, _GONE = "beat:", "concluded", -1
_COUNTED = ("complete", "pruned", "failed")
_CONCLUDES = "a driver's claim to conclude the study"
_log = logging.getLogger(__name__)


class DriverGroup:
    """This driver among those of its study; a context manager that beats.

    Args:
        study: In a storage that all drivers reach.
        patience: As ``PATIENCE``.

    Attributes:
        name: This driver's.
        concludes: Whether it is the one that ends the study.
    """

    def __init__(self, study: optuna.Study, patience: float = PATIENCE) -> None:
        self.name = f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.concludes = False
        self._study, self._patience = study, patience
        self._heard: dict[str, tuple[int, float]] = {}
        self._beaten = self._back = time.monotonic()
        self._claimed, self._ended = False, 0
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._heartbeat, name="mtl_search-beat", daemon=True)

    def __enter__(self) -> Self:
        self._tell(0)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._leaving.set()
        self._thread.join(self._patience)
        self._tell(_GONE)

    def _tell(self, heartbeat: int) -> None:
        self._study.set_user_attr(f"{_BEAT}{self.name}", heartbeat)
        now = time.monotonic()
        if now - self._beaten > _AWAY:  # nor could the others beat: they get time anew
            self._back = now
        self._beaten = now

    def _heartbeat(self) -> None:
        count = 0
        while not self._leaving.wait(HEARTBEAT_SECONDS):
            count += 1
            try:
                self._tell(count)
            except Exception:  # noqa: BLE001  each database driver raises its own kinds; said, and tried again
                _log.exception("driver %s cannot say that it lives; it tries again", self.name)

    def look(self) -> None:
        """Hear who beats."""
        beats = self._study.user_attrs
        now = time.monotonic()  # the answer may have been waited for
        for name, heartbeat in beats.items():
            if name.startswith(_BEAT) and self._heard.get(name, (None, 0.0))[0] != heartbeat:
                self._heard[name] = heartbeat, now

    def is_dead(self, owner: str) -> bool:
        """Whether a driver has left or died, as of the last looks.

        Where this driver's own beat does not get through, the storage is away and says nothing of others.
        """
        if owner == self.name:
            return False
        heartbeat, since = self._heard.setdefault(f"{_BEAT}{owner}", (0, time.monotonic()))
        now = time.monotonic()
        silent = now - self._beaten < _AWAY and now - max(since, self._back) > self._patience
        return heartbeat == _GONE or silent

    def objection(self, trial: FrozenTrial, others: Sequence[FrozenTrial], left: int, *, known: bool) -> str:
        """Why a trial that this driver has asked for and marked must not be tried; empty if it may.

        Each driver marks first and looks then, so of two with one recipe at least one sees the other.

        Args:
            trial: With its recipe's key.
            others: Running trials of all drivers.
            left: The budget without the trials that have ended.
            known: Whether its recipe was tried before.
        """
        earlier = [other for other in others if other.number < trial.number and DRIVER in other.user_attrs]
        if len(earlier) >= left:
            return "another driver's trial was the last of the budget"
        same = [other for other in others if other.user_attrs.get("key") == trial.user_attrs["key"]]
        if any(other.user_attrs.get(DRIVER, self.name) != self.name for other in same):
            return "another driver tries the recipe"
        queued = "retry_of" in trial.user_attrs or "fixed_params" in trial.system_attrs
        return "another driver has queued it too" if queued and (known or same) else ""

    def reclaim_trials(self, trials: Sequence[FrozenTrial], callbacks: Callback) -> None:
        """Close running trials whose driver has died, and queue them again.

        Args:
            trials: Running.
            callbacks: Are told of them.
        """
        self.look()
        for trial in trials:
            if not self.is_dead(trial.user_attrs.get(DRIVER, f"of trial {trial.number}")):
                continue
            storage = self._study._storage
            try:
                storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
                storage.set_trial_user_attr(trial._trial_id, "reason", "its driver ended before the trial did")
                self._study.tell(trial.number, state=TrialState.FAIL)
            except (UpdateFinishedTrialError, ValueError):  # another driver was faster
                continue
            if "recipe" in trial.user_attrs:
                record = TrialRecord.of(storage.get_trial(trial._trial_id))
                recipe = Recipe.from_dict(trial.user_attrs["recipe"])
                callbacks.on_run(RunStarted(TrialRun(trial.number), recipe))
                callbacks.on_run(TrialEnded(record))
                requeue_trial(self._study, trial)

    def wait_for_turn(self, trials: Sequence[TrialRecord]) -> bool:
        """Wait until this driver is the one to conclude, or another has.

        Args:
            trials: All of the study, none of them running: what a conclusion is of.

        Returns:
            Whether it is this one's turn.
        """
        self._ended = sum(trial.state in _COUNTED for trial in trials)
        if not self._claimed:
            notes = {REFUSED: _CONCLUDES, DRIVER: self.name}
            self._study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL, user_attrs=notes))
            self._claimed = True
        while True:
            self.look()
            if self._study.user_attrs.get(_CONCLUDED) == self._ended:
                return False
            failed = self._study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
            claims = [each.user_attrs[DRIVER] for each in failed if each.user_attrs.get(REFUSED) == _CONCLUDES]
            if next(owner for owner in claims if not self.is_dead(owner)) == self.name:
                self.concludes = True
                return True
            time.sleep(1.0)

    def concluded(self) -> None:
        """Let the others know that the outcome is there."""
        self._study.set_user_attr(_CONCLUDED, self._ended)
