"""The Python API: what the command line does, in a few lines of a script or a notebook.

`run_study` searches, `train` trains one recipe, `open_study` takes up a finished study; each gives a `StudyResult`.
Objects may stand where a study file has names: blocks as backbone, rows as data, an own weighting in the space.
"""

from mtl_search.api.result import Best, StudyResult
from mtl_search.api.studies import open_study, run_study, train

__all__ = ["Best", "StudyResult", "open_study", "run_study", "train"]
