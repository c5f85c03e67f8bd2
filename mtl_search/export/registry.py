"""The champion in MLflow, and the challenger: logged to the study's parent run, registered under the study's name.

The driver calls it when a study ends. It may fail alone (the server is away): the study's files are complete without.
Whoever is killed in between may do it again: a version of the same model of the same run is found and used.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from mtl_search.export.bundle import write_record
from mtl_search.export.champion import Champion, load_champion
from mtl_search.export.failure import explain_failure
from mtl_search.export.parity import compare
from mtl_search.export.programs import PT2_FILE, trace, write_pt2
from mtl_search.export.pyfunc import open_pyfunc, save_pyfunc
from mtl_search.export.version import TAGS, description, figures, summary
from mtl_search.passwords import without_passwords
from mtl_search.study_store.folder import StudyFolder
from mtl_search.tracking.destination import quick_http

ALIAS = "champion"
CHALLENGER = "challenger"
"""Alias of a cheaper model that cannot be told from the champion."""
RECORD_FOLDER = "trained"
"""In a logged model: what the model can be rebuilt from."""
_JOB, _MODEL = "mtl_search.job", "mtl_search.model_id"


@dataclass(frozen=True)
class Registration:
    """One version in MLflow's registry.

    Attributes:
        name: The registered model.
        version: Its version.
        uri: What to load or serve: ``models:/<name>@champion``.
        model_id: MLflow's id of the logged model.
    """

    name: str
    version: str
    uri: str
    model_id: str


def register_champion(folder: StudyFolder, uri: str, run_id: str | None, name: str) -> Registration:
    """Log the winner to the study's run and make it the version behind the alias ``champion``.

    Args:
        folder: Where the study lies.
        uri: MLflow's tracking URI; the registry is the same server's.
        run_id: The parent run, where it is known; without one the model is logged to no run.
        name: Name of the registered model.

    Raises:
        StudyError: The study has not ended, or files of it are missing.
        ExportError: The model cannot be exported or differs from the trained one; MLflow refuses it or is away.
    """
    experiment = folder.read_config().tracking.experiment or folder.name
    return _put(load_champion(folder), ALIAS, uri, run_id, name, experiment)


def register_challenger(folder: StudyFolder, uri: str, run_id: str | None, name: str) -> Registration | None:
    """Make the study's challenger the version behind the alias ``challenger``; where it has none, drop the alias.

    Args:
        folder: Where the study lies.
        uri: MLflow's tracking URI.
        run_id: The parent run, where it is known.
        name: Name of the registered model, which has a champion.

    Returns:
        The version; None where the study has no challenger.

    Raises:
        StudyError: The study has not ended, or files of it are missing.
        ExportError: As for the champion.
    """
    number = (folder.read_outcome() or {}).get("challenger")
    if number is None:
        with quick_http(), explain_failure(f"cannot change the registered model in MLflow at {without_passwords(uri)}"):
            client = MlflowClient(uri, uri)
            if CHALLENGER in client.get_registered_model(name).aliases:
                client.delete_registered_model_alias(name, CHALLENGER)
        return None
    experiment = folder.read_config().tracking.experiment or folder.name
    return _put(load_champion(folder, trial=number), CHALLENGER, uri, run_id, name, experiment)


def _put(champion: Champion, alias: str, uri: str, run_id: str | None, name: str, experiment: str) -> Registration:
    """Find the model's version or make it, and let the alias point at it."""
    tags = summary(champion) | {_JOB: Path(champion.outcome["folder"]).name}
    with quick_http(), explain_failure(f"cannot register the model in MLflow at {without_passwords(uri)}"):
        client = MlflowClient(uri, uri)
        _ensure_model(client, champion, name)
        version = None if run_id is None else _known(client, name, run_id, tags[_JOB])
        if version is not None:
            for key in TAGS & version.tags.keys() - tags.keys():  # true of the part that it had, not of the one it has
                client.delete_model_version_tag(name, version.version, key)
            for key, value in tags.items():
                client.set_model_version_tag(name, version.version, key, value)
            client.update_model_version(name, version.version, description(champion))
        else:
            version = _make(client, champion, tags, uri, run_id, name, experiment)
        client.set_registered_model_alias(name, alias, version.version)
    return Registration(name, str(version.version), f"models:/{name}@{alias}", version.tags[_MODEL])


def _known(client: MlflowClient, name: str, run_id: str, job: str) -> ModelVersion | None:
    """A version of the same model of the same study."""
    found = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    return next((version for version in found if version.tags.get(_JOB) == job and _MODEL in version.tags), None)


def _make(
    client: MlflowClient,
    champion: Champion,
    tags: dict[str, str],
    uri: str,
    run_id: str | None,
    name: str,
    experiment: str,
) -> ModelVersion:
    logged = client.create_logged_model(
        _experiment(experiment, client, run_id), name, run_id, figures(champion), model_type="multi-task"
    )
    identity = Model(
        artifact_path=logged.artifact_location, model_uuid=logged.model_id, run_id=run_id, model_id=logged.model_id
    )
    status = LoggedModelStatus.FAILED
    try:
        with tempfile.TemporaryDirectory(prefix="mtl_search_") as place:
            program, folder = Path(place) / PT2_FILE, Path(place) / "mlflow_model"
            write_pt2(trace(champion), program)
            save_pyfunc(champion, program, folder, identity)
            compare(champion, {folder.name: open_pyfunc(folder, champion)})
            write_record(champion, folder / RECORD_FOLDER)
            client.log_model_artifacts(logged.model_id, str(folder))
        status = LoggedModelStatus.READY
    finally:
        client.finalize_logged_model(logged.model_id, status)
    if run_id is not None:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    # A store in this process would look the model's id up at the process's own tracking URI, which may be another.
    here = urlparse(uri).scheme.partition("+")[0] in DATABASE_ENGINES
    version = client.create_model_version(
        name,
        logged.artifact_location if here else f"models:/{logged.model_id}",
        run_id,
        tags | {_MODEL: logged.model_id},
        description=description(champion),
        model_id=None if here else logged.model_id,
    )
    link = [{"name": name, "version": str(version.version)}]
    client.set_logged_model_tags(logged.model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(link)})
    return version


def _experiment(name: str, client: MlflowClient, run_id: str | None) -> str:
    if run_id is not None:
        return str(client.get_run(run_id).info.experiment_id)
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id) if found is not None else "0"


def _ensure_model(client: MlflowClient, champion: Champion, name: str) -> None:
    tasks = ", ".join(f"{task.name} ({task.kind})" for task in champion.tasks)
    try:
        client.create_registered_model(name, description=f"One multi-task model for the tasks {tasks}.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
