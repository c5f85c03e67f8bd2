"""Reopening: an exported folder -> the trained model behind it, with which it can be extended.

`bundle` wrote the parameters and what the model is made of beside the programs; nothing in the folder is run here.
"""

import hashlib
from pathlib import Path

from safetensors import SafetensorError

from mtl_search.export.bundle import FORMATS, MLFLOW_FOLDER, RECORD_FILE, is_export
from mtl_search.export.champion import Champion, champion_from_dict
from mtl_search.export.failure import ExportError
from mtl_search.export.programs import ONNX_FILE, PT2_FILE
from mtl_search.recipe import content_key
from mtl_search.storage.checkpoint import MODEL_FILE, load_model
from mtl_search.storage.files import read_json


def reopen(folder: Path) -> Champion:
    """The model that an exported folder holds.

    Args:
        folder: What `export_model` or an extension wrote.

    Raises:
        ExportError: It is no exported folder, an older version wrote it, or its files do not fit each other.
        ConfigError: The backbone is a user's own and cannot be imported.
    """
    if not is_export(folder):
        raise ExportError(f"{folder} is no exported model: name a folder that `mtl-search export` wrote")
    if lost := [name for name in (RECORD_FILE, MODEL_FILE) if not (folder / name).exists()]:
        raise ExportError(
            f"{folder} lacks {lost[0]}, which older versions did not write: export the study again with this one"
        )
    return rebuild_champion(folder)


def rebuild_champion(folder: Path) -> Champion:
    """The model whose record `bundle.write_record` wrote into a folder.

    Raises:
        ExportError: Its files do not fit each other.
        ConfigError: The backbone is a user's own and cannot be imported.
    """
    try:
        return champion_from_dict(read_json(folder / RECORD_FILE), load_model(folder))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ExportError(f"the files in {folder} do not fit each other ({reason})") from error


def content_hash(folder: Path) -> str:
    """Hash of an exported model's parameters and of what it is made of: 24 hexadecimal characters."""
    return content_key(
        *(hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (RECORD_FILE, MODEL_FILE))
    )


def formats_in(folder: Path) -> tuple[str, ...]:
    """The programs that an exported folder holds beside its MLflow model."""
    return tuple(name for name, file in zip(FORMATS, (PT2_FILE, ONNX_FILE), strict=True) if (folder / file).exists())


def program_in(folder: Path) -> Path:
    """The program that an exported folder always holds."""
    return folder / MLFLOW_FOLDER / "artifacts" / PT2_FILE
