"""Families: every family of variants that data, models and training are made of, by the word a study file has for it.

``catalog`` adds those of the search, and holds study files against all of them.
"""

from collections.abc import Mapping

from mtl_search.alignment import ALIGNMENTS
from mtl_search.data.sources import SOURCES
from mtl_search.fusion import FUSIONS
from mtl_search.models.backbones import BACKBONES
from mtl_search.models.sharing import SHARINGS
from mtl_search.space.binding import Family
from mtl_search.transfer import AUXILIARIES, DECAYS, OPTIMIZERS, TRANSFERS, UNFREEZINGS
from mtl_search.transfer.bases import BASES
from mtl_search.weighting import WEIGHTINGS

TRAINING_FAMILIES: Mapping[str, Family] = {
    "source": SOURCES,
    "backbone": BACKBONES,
    "base": BASES,
    "transfer": TRANSFERS,
    "auxiliary": AUXILIARIES,
    "sharing": SHARINGS,
    "fusion": FUSIONS,
    "weighting": WEIGHTINGS,
    "alignment": ALIGNMENTS,
    "optimizer": OPTIMIZERS,
    "decay": DECAYS,
    "unfreezing": UNFREEZINGS,
}
