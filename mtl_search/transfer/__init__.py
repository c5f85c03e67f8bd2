"""From the base to trained models: starting parameters, what of them is used, the parts of a schedule, batch norm."""

from mtl_search.transfer.auxiliaries import AUXILIARIES, Auxiliary
from mtl_search.transfer.average import Average
from mtl_search.transfer.bases import BASES, Base
from mtl_search.transfer.decays import DECAYS, Decay
from mtl_search.transfer.kinds import TRANSFERS, Transfer
from mtl_search.transfer.l2_sp import L2SP
from mtl_search.transfer.norms import has_batch_norm, recalibrate
from mtl_search.transfer.optimizers import OPTIMIZERS, Optimizer
from mtl_search.transfer.unfreezing import UNFREEZINGS, Unfreezing

__all__ = [
    "AUXILIARIES",
    "BASES",
    "DECAYS",
    "L2SP",
    "OPTIMIZERS",
    "TRANSFERS",
    "UNFREEZINGS",
    "Auxiliary",
    "Average",
    "Base",
    "Decay",
    "Optimizer",
    "Transfer",
    "Unfreezing",
    "has_batch_norm",
    "recalibrate",
]
