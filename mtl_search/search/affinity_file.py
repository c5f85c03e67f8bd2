"""AffinityFile: keeps task affinity in the study's folder, for figures and reports that are made later."""

from mtl_search.search.folder import StudyFolder
from mtl_search.search.grouping import AffinityMatrix, Groups
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
