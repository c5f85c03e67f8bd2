"""Weightings by name: a variant is one file and one line here."""

from typing import TYPE_CHECKING

from mtl_search.variants.registry import Registry, import_on_use

if TYPE_CHECKING:
    from mtl_search.weighting.base import Weighting as Weighting
    from mtl_search.weighting.fixed import Fixed as Fixed
    from mtl_search.weighting.jacobian import JacobianWeighting as JacobianWeighting
    from mtl_search.weighting.look_ahead import LookAhead as LookAhead

WEIGHTINGS: Registry["Weighting"] = Registry(
    __name__,
    {
        "fixed": "fixed:Fixed",
        "random": "random:Random",
        "uncertainty": "uncertainty:Uncertainty",
        "dwa": "dwa:Dwa",
        "famo": "famo:Famo",
        "stch": "stch:Stch",
        "geometric_mean": "geometric_mean:GeometricMean",
        "imtl_l": "imtl_l:ImtlL",
        "auto_lambda": "auto_lambda:AutoLambda",
        "gradnorm": "gradnorm:GradNorm",
        "mgda": "mgda:Mgda",
        "pcgrad": "pcgrad:PcGrad",
        "cagrad": "cagrad:CaGrad",
        "upgrad": "upgrad:UpGrad",
        "aligned_mtl": "aligned_mtl:AlignedMtl",
        "imtl_g": "imtl_g:ImtlG",
        "nash_mtl": "nash_mtl:NashMtl",
        "fairgrad": "fairgrad:FairGrad",
        "graddrop": "graddrop:GradDrop",
    },
)
__getattr__ = import_on_use(
    __name__, {"base": ["Weighting"], "jacobian": ["JacobianWeighting"], "look_ahead": ["LookAhead"]}, WEIGHTINGS
)
