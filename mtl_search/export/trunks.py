"""Trunks: what an earlier study learned, as the base of another.

The ``study`` base asks for one by name; it comes from a study's folder, an exported folder or MLflow's registry.
"""

from collections.abc import Sequence
from pathlib import Path

import mlflow.artifacts
import torch
from mlflow import MlflowClient
from torch import Tensor

from mtl_search.export.bundle import is_export
from mtl_search.export.champion import Champion, load_champion
from mtl_search.export.failure import explain_failure
from mtl_search.export.registry import RECORD_FOLDER
from mtl_search.export.reopening import rebuild_champion, reopen
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.passwords import without_passwords
from mtl_search.storage.paths import StoragePath, storage_path
from mtl_search.study_store.folder import StudyFolder
from mtl_search.study_store.user_modules import use_folders_of
from mtl_search.tracking.destination import quick_http


def trunk(name: str, storage: StoragePath, uri: str) -> dict[str, Tensor]:
    """The trunk of an earlier model.

    Args:
        name: A study in the storage, the folder of a study or of an exported model, or a model in MLflow's registry
            (``models:/NAME@champion``, ``models:/NAME/3``).
        storage: Where studies lie.
        uri: MLflow's.

    Returns:
        For each block the copy that most tasks use, keys ``{l}.<name>``; where several have as many, their mean.

    Raises:
        StudyError: There is no such study, or it has not ended.
        ExportError: There is no such model, or it cannot be rebuilt.
    """
    champion = _champion(name, storage, uri)
    return trunk_of(champion.model, champion.sources)


def _champion(name: str, storage: StoragePath, uri: str) -> Champion:
    if name.startswith("models:/"):
        with quick_http(), explain_failure(f"cannot get {name} from MLflow at {without_passwords(uri)}"):
            source = f"{_location(name, MlflowClient(uri, uri))}/{RECORD_FOLDER}"
            folder = mlflow.artifacts.download_artifacts(artifact_uri=source, tracking_uri=uri)
        return rebuild_champion(Path(folder))
    path = storage_path(name)
    if isinstance(path, Path) and is_export(path):
        return reopen(path)
    study = StudyFolder.at(name, storage)
    use_folders_of(study)
    return load_champion(study)


def _location(name: str, client: MlflowClient) -> str:
    """Where the artifacts of a registered version lie."""
    model, _, alias = name.removeprefix("models:/").partition("@")
    if alias:
        version = client.get_model_version_by_alias(model, alias)
    else:
        model, _, number = model.rpartition("/")
        version = client.get_model_version(model, number)
    source = str(version.source)
    if not source.startswith("models:/"):
        return source
    return str(client.get_logged_model(source.removeprefix("models:/")).artifact_location)


def trunk_of(model: MultiTaskModel, sources: Sequence[str] = ()) -> dict[str, Tensor]:
    """For each block the copy that most tasks use, keys ``{l}.<name>``; where several have as many, their mean.

    Args:
        model: Trained.
        sources: Tasks that do not count.
    """
    found = {}
    for number, (copies, groups) in enumerate(zip(model.blocks, model.plan.groups, strict=True)):
        users = [len(set(group) - set(sources)) for group in groups]
        pairs = zip(copies.children(), users, strict=True)
        chosen = [copy.state_dict() for copy, count in pairs if count == max(users)]
        for name, first in chosen[0].items():
            values = [state[name] for state in chosen]
            mean = torch.stack([value.double() for value in values]).mean(0) if first.is_floating_point() else first
            found[f"{number}.{name}"] = mean.to(first.dtype)
    return found
