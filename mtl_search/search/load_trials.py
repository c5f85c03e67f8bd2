"""Taking up: a study's trials are read from its storage while Ray starts; thousands of them take seconds.

Begun by the study first of all, and ended when its pool is up.
"""

import gc
import sys
from concurrent.futures import ThreadPoolExecutor

import optuna

from mtl_search.config.search_config import SearchConfig
from mtl_search.results.trial_record import TrialRecord, records_of
from mtl_search.search.callbacks import Callback
from mtl_search.study_store.folder import StudyFolder

_SWITCH_SECONDS = 0.0005
"""Ray's start waits a thousand times for a moment; each time it would have to wait Python's 5 ms for this thread."""

_MANY = 200_000
"""New objects between two collections: a long study is a million, none of them garbage."""


class TrialLoader:
    """Reads in a thread of its own, at once.

    Args:
        folder: The study's.
        search: How it is searched.
    """

    def __init__(self, folder: StudyFolder, search: SearchConfig) -> None:
        self._folder, self._search = folder, search
        reader = ThreadPoolExecutor(1, "mtl_search-reader")
        self._reading = reader.submit(self._read)
        reader.shutdown(wait=False)

    def _read(self) -> tuple[optuna.Study, list[TrialRecord]]:
        switch, collect = sys.getswitchinterval(), gc.get_threshold()
        sys.setswitchinterval(_SWITCH_SECONDS)
        gc.set_threshold(_MANY, *collect[1:])
        try:
            study = self._folder.optuna_study(self._search.storage, len(self._search.objectives))
            return study, records_of(study.get_trials(deepcopy=False), recipes=False)
        finally:
            gc.set_threshold(*collect)
            sys.setswitchinterval(switch)

    def log_trials(self, callbacks: Callback) -> optuna.Study:
        """Wait until all is read, and let the callbacks know what the study has tried before; Optuna's study.

        Raises:
            DamagedError: The study's journal is damaged.
            StudyError: The database cannot be reached.
        """
        study, trials = self._reading.result()
        callbacks.on_trials_loaded(trials)
        return study
