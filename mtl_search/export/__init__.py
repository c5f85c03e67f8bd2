"""Export: the winner of a study as files that another program can load and serve, checked against the trained model.

Last hop of the data path. `load_champion` rebuilds the trained model from the study's folder, `export_model` writes and
checks the files, `register_champion` puts the same model into MLflow's registry.
"""

from mtl_search.export.bundle import FORMATS, ExportReport, export_model
from mtl_search.export.champion import Champion, load_champion
from mtl_search.export.failure import ExportError
from mtl_search.export.registry import ALIAS, CHALLENGER, Registration, register_challenger, register_champion

__all__ = [
    "ALIAS",
    "CHALLENGER",
    "FORMATS",
    "Champion",
    "ExportError",
    "ExportReport",
    "Registration",
    "export_model",
    "load_champion",
    "register_challenger",
    "register_champion",
]
