"""Watchers that keep files: task affinity for figures made later, and all that the driver writes in the storage."""

from mtl_search.recipe import Recipe
from mtl_search.search.folder import StudyFolder
from mtl_search.search.grouping import AffinityMatrix, Groups
from mtl_search.search.record import TrialRecord
from mtl_search.search.watchers import PartialWatcher
from mtl_search.training.files import read_json, write_json


class AffinityFile(PartialWatcher):
    """Writes each kind of affinity as it becomes known.

    Args:
        folder: The study's.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self._file = folder.affinity_file

    def affinity_measured(self, kind: str, affinity: AffinityMatrix, groups: Groups) -> None:
        """Keep it beside the other kinds."""
        known = read_json(self._file) if self._file.exists() else {}
        write_json(self._file, {**known, kind: {"affinity": affinity, "groups": groups}})


class KeptInStorage(PartialWatcher):
    """Has the driver's files stored when something has happened that must not be lost.

    Args:
        folder: The study's.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder

    def trial_started(self, number: int, recipe: Recipe) -> None:
        """No other trial gets its number, whatever happens."""
        self._folder.stored()

    def trial_ended(self, trial: TrialRecord) -> None:
        """What it came to stays."""
        self._folder.stored()
