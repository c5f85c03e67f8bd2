"""From the base to trained models: starting parameters, what of them is used, optimisers, decays, batch norm."""

from mtl_search.transfer.auxiliaries import AUXILIARIES, Auxiliary
from mtl_search.transfer.bases import BASES, Base
from mtl_search.transfer.decays import DECAYS, Decay
from mtl_search.transfer.kinds import TRANSFERS, Transfer
from mtl_search.transfer.norms import has_batch_norm, recalibrate
from mtl_search.transfer.optimizers import OPTIMIZERS, Optimizer

__all__ = [
    "AUXILIARIES",
    "BASES",
    "DECAYS",
    "OPTIMIZERS",
    "TRANSFERS",
    "Auxiliary",
    "Base",
    "Decay",
    "Optimizer",
    "Transfer",
    "has_batch_norm",
    "recalibrate",
]
