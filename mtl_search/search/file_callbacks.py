"""Callbacks that keep files: task affinity for figures made later, and all that the driver writes in the storage."""

from mtl_search.search.callbacks import Callback, RunEvent, RunStarted, TrialEnded, TrialRun
from mtl_search.search.grouping import AffinityMatrix, TaskGroups
from mtl_search.storage.files import read_json, write_json
from mtl_search.study_store.folder import StudyFolder


class AffinityFileCallback(Callback):
    """Writes each kind of affinity as it becomes known.

    Args:
        folder: The study's.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self._file = folder.affinity_file

    def on_affinity_measured(self, kind: str, affinity: AffinityMatrix, groups: TaskGroups) -> None:
        """Keep it beside the other kinds."""
        known = read_json(self._file) if self._file.exists() else {}
        write_json(self._file, {**known, kind: {"affinity": affinity, "groups": groups}})


class StorageSyncCallback(Callback):
    """Has the driver's files stored when something has happened that must not be lost.

    Args:
        folder: The study's.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder

    def on_run(self, event: RunEvent) -> None:
        """Store a trial's beginning, so that no other trial gets its number, and what it came to."""
        match event:
            case RunStarted(TrialRun()) | TrialEnded():
                self._folder.stored()
