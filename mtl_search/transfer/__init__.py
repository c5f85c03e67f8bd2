"""From the base to trained models: starting parameters, what of them is used, the parts of a schedule, batch norm."""

from typing import TYPE_CHECKING

from mtl_search.variants.registry import Registry, import_on_use

if TYPE_CHECKING:
    from mtl_search.transfer.auxiliaries import Auxiliary as Auxiliary
    from mtl_search.transfer.average import Average as Average
    from mtl_search.transfer.bases import BASES as BASES
    from mtl_search.transfer.bases import Base as Base
    from mtl_search.transfer.decays import Decay as Decay
    from mtl_search.transfer.kinds import Transfer as Transfer
    from mtl_search.transfer.l2_sp import L2SP as L2SP
    from mtl_search.transfer.norms import has_batch_norm as has_batch_norm
    from mtl_search.transfer.norms import recalibrate as recalibrate
    from mtl_search.transfer.optimizers import Optimizer as Optimizer
    from mtl_search.transfer.unfreezing import Unfreezing as Unfreezing

AUXILIARIES: Registry["Auxiliary"] = Registry(
    __name__,
    {
        "none": "auxiliaries:NoAuxiliary",
        "constant": "auxiliaries:ConstantAuxiliary",
        "linear": "auxiliaries:LinearAuxiliary",
    },
)
TRANSFERS: Registry["Transfer"] = Registry(
    __name__,
    {
        "parameters": "kinds:Parameters",
        "features": "kinds:Features",
        "structure": "kinds:Structure",
    },
)
OPTIMIZERS: Registry["Optimizer"] = Registry(
    __name__,
    {
        "adamw": "optimizers:AdamW",
        "sgd": "optimizers:Sgd",
    },
)
DECAYS: Registry["Decay"] = Registry(
    __name__,
    {
        "cosine": "decays:Cosine",
        "constant": "decays:Constant",
        "linear": "decays:Linear",
    },
)
UNFREEZINGS: Registry["Unfreezing"] = Registry(
    __name__,
    {
        "all": "unfreezing:All",
        "shared": "unfreezing:Shared",
        "heads_first": "unfreezing:HeadsFirst",
        "gradual": "unfreezing:Gradual",
        "never": "unfreezing:Never",
    },
)
__getattr__ = import_on_use(
    __name__,
    {
        "auxiliaries": ["Auxiliary"],
        "average": ["Average"],
        "bases": ["BASES", "Base"],
        "decays": ["Decay"],
        "kinds": ["Transfer"],
        "l2_sp": ["L2SP"],
        "norms": ["has_batch_norm", "recalibrate"],
        "optimizers": ["Optimizer"],
        "unfreezing": ["Unfreezing"],
    },
    AUXILIARIES,
    TRANSFERS,
    OPTIMIZERS,
    DECAYS,
    UNFREEZINGS,
)
