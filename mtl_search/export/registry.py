"""The champion in MLflow: logged to the study's parent run, registered under the study's name.

The driver calls it when a study ends. It may fail alone (the server is away): the study's files are complete without.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from mtl_search.export.bundle import write_record
from mtl_search.export.card import headline
from mtl_search.export.champion import Champion, load_champion
from mtl_search.export.failure import explaining
from mtl_search.export.parity import compare
from mtl_search.export.programs import PT2_FILE, trace, write_pt2
from mtl_search.export.pyfunc import open_pyfunc, save_pyfunc
from mtl_search.search.folder import StudyFolder
from mtl_search.tracking.destination import quick_http

ALIAS = "champion"
RECORD_FOLDER = "trained"
"""In a logged model: what the model can be rebuilt from."""


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
    champion = load_champion(folder)
    experiment = folder.read_config().tracking.experiment or champion.name
    with tempfile.TemporaryDirectory(prefix="mtl_search_") as place:
        program = Path(place) / PT2_FILE
        write_pt2(trace(champion), program)
        with quick_http(), explaining(f"cannot register the model in MLflow at {uri}"):
            return _register(champion, program, uri, run_id, name, experiment)


def _register(
    champion: Champion, program: Path, uri: str, run_id: str | None, name: str, experiment: str
) -> Registration:
    client = MlflowClient(uri, uri)
    logged = client.create_logged_model(
        _experiment(experiment, client, run_id), name, run_id, figures(champion), model_type="multi-task"
    )
    identity = Model(
        artifact_path=logged.artifact_location, model_uuid=logged.model_id, run_id=run_id, model_id=logged.model_id
    )
    status = LoggedModelStatus.FAILED
    try:
        folder = program.with_name("mlflow_model")
        save_pyfunc(champion, program, folder, identity)
        compare(champion, {folder.name: open_pyfunc(folder, champion)})
        write_record(champion, folder / RECORD_FOLDER)
        client.log_model_artifacts(logged.model_id, str(folder))
        status = LoggedModelStatus.READY
    finally:
        client.finalize_logged_model(logged.model_id, status)
    if run_id is not None:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    _ensure_model(client, champion, name)
    # A store in this process would look the model's id up at the process's own tracking URI, which may be another.
    here = urlparse(uri).scheme.partition("+")[0] in DATABASE_ENGINES
    version = client.create_model_version(
        name,
        logged.artifact_location if here else f"models:/{logged.model_id}",
        run_id,
        figures(champion),
        description=headline(champion),
        model_id=None if here else logged.model_id,
    )
    link = [{"name": name, "version": str(version.version)}]
    client.set_logged_model_tags(logged.model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(link)})
    client.set_registered_model_alias(name, ALIAS, version.version)
    return Registration(name, str(version.version), f"models:/{name}@{ALIAS}", logged.model_id)


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


def figures(champion: Champion) -> dict[str, str]:
    """What the study measured, as tags."""
    outcome = champion.outcome
    numbers = {"improvement": outcome["improvement"], "test_improvement": outcome["test_improvement"]}
    for task, found in outcome["tasks"].items():
        for name in ("validation", "baseline", "gain", "test", "test_baseline", "test_gain"):
            numbers[f"{name}.{task}"] = found[name]
    tags = {name: f"{value:.6g}" for name, value in numbers.items() if value is not None and math.isfinite(value)}
    plain = {
        "study": champion.name,
        "trial": outcome["number"],
        "recipe": champion.recipe.key,
        "parameters": outcome["parameters"],
        "single_parameters": outcome["single_parameters"],
    }
    return tags | {name: str(value) for name, value in plain.items()}
