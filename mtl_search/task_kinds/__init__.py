"""Task kinds by name: a kind is one file and one line here.

The family stands below the study file's configuration, which has rules between a task's kind and its other keys.
"""

from mtl_search.task_kinds.base import Fit, FittedTask, RawTarget, StatedTask, TaskKind
from mtl_search.task_kinds.binary import Binary
from mtl_search.task_kinds.classification import Classification
from mtl_search.task_kinds.count import Count
from mtl_search.task_kinds.multilabel import Multilabel
from mtl_search.task_kinds.ordinal import Ordinal
from mtl_search.task_kinds.regression import Regression

TASK_KINDS: dict[str, TaskKind] = {
    "classification": Classification(),
    "binary": Binary(),
    "regression": Regression(),
    "multilabel": Multilabel(),
    "count": Count(),
    "ordinal": Ordinal(),
}

__all__ = ["TASK_KINDS", "Fit", "FittedTask", "RawTarget", "StatedTask", "TaskKind"]
