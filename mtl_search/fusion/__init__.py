"""Fusions by name: a variant is one file and one line here."""

from typing import TYPE_CHECKING

from mtl_search.variants.registry import Registry, import_on_use

if TYPE_CHECKING:
    from mtl_search.fusion.apply import fuse as fuse
    from mtl_search.fusion.base import Fusion as Fusion
    from mtl_search.fusion.base import Site as Site
    from mtl_search.fusion.learning import LearningFusion as LearningFusion
    from mtl_search.fusion.measuring import MeasuringFusion as MeasuringFusion
    from mtl_search.fusion.scored import Scored as Scored

FUSIONS: Registry["Fusion"] = Registry(
    __name__,
    {
        "mean": "mean:Mean",
        "weighted": "weighted:Weighted",
        "scored": "scored:Scored",
        "layerwise": "layerwise:Layerwise",
        "task_arithmetic": "task_arithmetic:TaskArithmetic",
        "ties": "ties:Ties",
        "dare": "dare:Dare",
        "slerp": "slerp:Slerp",
        "fisher": "fisher:Fisher",
        "regmean": "regmean:RegMean",
        "learned": "learned:Learned",
        "learned_gate": "learned_gate:LearnedGate",
        "none": "none:NoFusion",
    },
)
__getattr__ = import_on_use(
    __name__,
    {"apply": ["fuse"], "base": ["Fusion", "Site"], "learning": ["LearningFusion"], "measuring": ["MeasuringFusion"]},
    FUSIONS,
)
