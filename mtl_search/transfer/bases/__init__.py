"""Bases by name: a variant is one file and one line here."""

from mtl_search.transfer.bases.base import Base, MakeBlocks
from mtl_search.transfer.bases.checkpoint import CheckpointBase
from mtl_search.transfer.bases.fomaml import Fomaml
from mtl_search.transfer.bases.learned import LearnedBase, MetaLearned
from mtl_search.transfer.bases.pretrain import Pretrain
from mtl_search.transfer.bases.python_base import PythonBase
from mtl_search.transfer.bases.random import RandomBase
from mtl_search.transfer.bases.reptile import Reptile
from mtl_search.transfer.bases.study import StudyBase

BASES: dict[str, type[Base]] = {
    "random": RandomBase,
    "pretrain": Pretrain,
    "reptile": Reptile,
    "fomaml": Fomaml,
    "checkpoint": CheckpointBase,
    "study": StudyBase,
    "python": PythonBase,
}

__all__ = ["BASES", "Base", "LearnedBase", "MakeBlocks", "MetaLearned"]
