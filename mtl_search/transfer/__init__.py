"""From the base to trained models: starting parameters, optimisers, decays and batch norm's statistics."""

from mtl_search.transfer.bases import BASES, Base
from mtl_search.transfer.decays import DECAYS, Decay
from mtl_search.transfer.norms import has_batch_norm, recalibrate
from mtl_search.transfer.optimizers import OPTIMIZERS, Optimizer

__all__ = ["BASES", "DECAYS", "OPTIMIZERS", "Base", "Decay", "Optimizer", "has_batch_norm", "recalibrate"]
