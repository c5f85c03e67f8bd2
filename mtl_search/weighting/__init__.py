"""Weightings by name: a variant is one file and one line here."""

from mtl_search.weighting.aligned_mtl import AlignedMtl
from mtl_search.weighting.auto_lambda import AutoLambda
from mtl_search.weighting.base import Weighting
from mtl_search.weighting.cagrad import CaGrad
from mtl_search.weighting.dwa import Dwa
from mtl_search.weighting.fairgrad import FairGrad
from mtl_search.weighting.famo import Famo
from mtl_search.weighting.fixed import Fixed
from mtl_search.weighting.geometric_mean import GeometricMean
from mtl_search.weighting.graddrop import GradDrop
from mtl_search.weighting.gradnorm import GradNorm
from mtl_search.weighting.imtl_g import ImtlG
from mtl_search.weighting.imtl_l import ImtlL
from mtl_search.weighting.jacobian import JacobianWeighting
from mtl_search.weighting.look_ahead import LookAhead
from mtl_search.weighting.mgda import Mgda
from mtl_search.weighting.nash_mtl import NashMtl
from mtl_search.weighting.pcgrad import PcGrad
from mtl_search.weighting.random import Random
from mtl_search.weighting.stch import Stch
from mtl_search.weighting.uncertainty import Uncertainty
from mtl_search.weighting.upgrad import UpGrad

WEIGHTINGS: dict[str, type[Weighting]] = {
    "fixed": Fixed,
    "random": Random,
    "uncertainty": Uncertainty,
    "dwa": Dwa,
    "famo": Famo,
    "stch": Stch,
    "geometric_mean": GeometricMean,
    "imtl_l": ImtlL,
    "auto_lambda": AutoLambda,
    "gradnorm": GradNorm,
    "mgda": Mgda,
    "pcgrad": PcGrad,
    "cagrad": CaGrad,
    "upgrad": UpGrad,
    "aligned_mtl": AlignedMtl,
    "imtl_g": ImtlG,
    "nash_mtl": NashMtl,
    "fairgrad": FairGrad,
    "graddrop": GradDrop,
}

__all__ = ["WEIGHTINGS", "Fixed", "JacobianWeighting", "LookAhead", "Weighting"]
