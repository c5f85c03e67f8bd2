"""Bases by name: a variant is one file and one line here."""

from typing import TYPE_CHECKING

from mtl_search.variants.registry import Registry, import_on_use

if TYPE_CHECKING:
    from mtl_search.transfer.bases.base import Base as Base
    from mtl_search.transfer.bases.base import MakeBlocks as MakeBlocks
    from mtl_search.transfer.bases.learned import LearnedBase as LearnedBase
    from mtl_search.transfer.bases.learned import MetaLearned as MetaLearned

BASES: Registry["Base"] = Registry(
    __name__,
    {
        "random": "random:RandomBase",
        "pretrain": "pretrain:Pretrain",
        "reptile": "reptile:Reptile",
        "fomaml": "fomaml:Fomaml",
        "checkpoint": "checkpoint:CheckpointBase",
        "study": "study:StudyBase",
        "python": "python_base:PythonBase",
    },
)
__getattr__ = import_on_use(
    __name__, {"base": ["Base", "MakeBlocks"], "learned": ["LearnedBase", "MetaLearned"]}, BASES
)
