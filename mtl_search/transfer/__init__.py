"""From the base to trained models: starting parameters, the parts of a schedule, batch norm's statistics."""

from mtl_search.transfer.average import Average
from mtl_search.transfer.bases import BASES, Base
from mtl_search.transfer.decays import DECAYS, Decay
from mtl_search.transfer.l2_sp import L2SP
from mtl_search.transfer.norms import has_batch_norm, recalibrate
from mtl_search.transfer.optimizers import OPTIMIZERS, Optimizer
from mtl_search.transfer.unfreezing import UNFREEZINGS, Unfreezing

__all__ = [
    "BASES",
    "DECAYS",
    "L2SP",
    "OPTIMIZERS",
    "UNFREEZINGS",
    "Average",
    "Base",
    "Decay",
    "Optimizer",
    "Unfreezing",
    "has_batch_norm",
    "recalibrate",
]
