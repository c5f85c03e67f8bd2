"""Fusions by name: a variant is one file and one line here."""

from mtl_search.fusion.apply import fuse
from mtl_search.fusion.base import Fusion, Site
from mtl_search.fusion.dare import Dare
from mtl_search.fusion.fisher import Fisher
from mtl_search.fusion.layerwise import Layerwise
from mtl_search.fusion.learned import Learned
from mtl_search.fusion.learned_gate import LearnedGate
from mtl_search.fusion.learning import LearningFusion
from mtl_search.fusion.mean import Mean
from mtl_search.fusion.measuring import MeasuringFusion
from mtl_search.fusion.none import NoFusion
from mtl_search.fusion.regmean import RegMean
from mtl_search.fusion.scored import Scored
from mtl_search.fusion.slerp import Slerp
from mtl_search.fusion.task_arithmetic import TaskArithmetic
from mtl_search.fusion.ties import Ties
from mtl_search.fusion.weighted import Weighted

FUSIONS: dict[str, type[Fusion]] = {
    "mean": Mean,
    "weighted": Weighted,
    "scored": Scored,
    "layerwise": Layerwise,
    "task_arithmetic": TaskArithmetic,
    "ties": Ties,
    "dare": Dare,
    "slerp": Slerp,
    "fisher": Fisher,
    "regmean": RegMean,
    "learned": Learned,
    "learned_gate": LearnedGate,
    "none": NoFusion,
}

__all__ = [
    "FUSIONS",
    "Dare",
    "Fisher",
    "Fusion",
    "Layerwise",
    "Learned",
    "LearnedGate",
    "LearningFusion",
    "Mean",
    "MeasuringFusion",
    "NoFusion",
    "RegMean",
    "Scored",
    "Site",
    "Slerp",
    "TaskArithmetic",
    "Ties",
    "Weighted",
    "fuse",
]
