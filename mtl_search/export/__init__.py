"""Export: the winner of a study as files that another program can load and serve, checked against the trained model.

Last hop of the data path. `load_champion` rebuilds the trained model from the study's folder, `export_model` writes and
checks the files, `register_champion` puts the same model into MLflow's registry.
"""

from typing import TYPE_CHECKING

from mtl_search.variants.registry import import_on_use

if TYPE_CHECKING:
    from mtl_search.export.bundle import FORMATS as FORMATS
    from mtl_search.export.bundle import ExportReport as ExportReport
    from mtl_search.export.bundle import export_model as export_model
    from mtl_search.export.champion import Champion as Champion
    from mtl_search.export.champion import load_champion as load_champion
    from mtl_search.export.failure import ExportError as ExportError
    from mtl_search.export.registry import ALIAS as ALIAS
    from mtl_search.export.registry import CHALLENGER as CHALLENGER
    from mtl_search.export.registry import Registration as Registration
    from mtl_search.export.registry import register_challenger as register_challenger
    from mtl_search.export.registry import register_champion as register_champion

__getattr__ = import_on_use(
    __name__,
    {
        "bundle": ["FORMATS", "ExportReport", "export_model"],
        "champion": ["Champion", "load_champion"],
        "failure": ["ExportError"],
        "registry": ["ALIAS", "CHALLENGER", "Registration", "register_challenger", "register_champion"],
    },
)
