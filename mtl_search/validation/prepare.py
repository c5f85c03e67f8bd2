"""Prepare: a checked study file -> its data and workload, held against the file: all that is checked before training.

`launch` runs what this gives; ``validate`` tells it. Imports neither Ray, MLflow nor Optuna.
"""

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mtl_search.config.study_config import StudyConfig
from mtl_search.data.study_data import StudyData, load_data
from mtl_search.errors import NOTHING, ConfigError, within_memory
from mtl_search.pool.addresses import in_a_job
from mtl_search.storage.paths import StoragePath, storage_path
from mtl_search.study_store.data_card import check_same_rows, describe_data
from mtl_search.training.metrics import task_goals
from mtl_search.training.workspace import Workload
from mtl_search.transfer.bases.base import Fetch, State
from mtl_search.validation.data_rules import base_problems, fit_problems, objective_problems
from mtl_search.validation.job_paths import job_path_problems
from mtl_search.validation.study_file import LoadedStudy
from mtl_search.validation.study_notes import study_notes
from mtl_search.variants.python_objects import PythonObjects

if TYPE_CHECKING:
    from mtl_search.study_store.folder import StudyFolder


@dataclass(frozen=True)
class Prepared:
    """A study whose file and data hold every rule.

    Attributes:
        study: The study file.
        data: Its data.
        workload: What workers get.
        notes: What a user should know though it is no error.
    """

    study: LoadedStudy
    data: StudyData
    workload: Workload
    notes: tuple[str, ...]


def storage_of(config: StudyConfig) -> StoragePath:
    """The storage, whatever the working folder of a worker is."""
    return storage_path(config.storage)


def tracking_uri(config: StudyConfig) -> str:
    """MLflow's URI: the study file's, the environment's, or sqlite in the working folder."""
    uri = config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    prefix = "sqlite:///"
    if uri.startswith(prefix) and not uri.startswith(prefix + "/"):
        return f"{prefix}{Path(uri.removeprefix(prefix)).resolve()}"
    return uri


def prepare(study: LoadedStudy) -> Prepared:
    """Read the data and hold it, the backbone and the space against each other.

    Raises:
        ConfigError: Backbone, metrics or space do not fit the data.
        DataError: The data breaks a rule.
    """
    config = study.config
    uri = config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if in_a_job() and (problems := job_path_problems(config, uri)):
        raise ConfigError(problems)
    with within_memory("data", NOTHING), study.places.translated():
        data = load_data(config.data, config.tasks, config.seed, config.source_tasks)
        goals = task_goals(data, data.all_tasks)
    resources, backbone = config.resources, config.backbone
    parts = [config.backbone, *(part for recipe in study.space.extreme_recipes() for part in recipe.components)]
    objects = PythonObjects.of(part.name for part in parts)
    with within_memory(f"backbone.{backbone.name}", dict(backbone.params)):
        workload = Workload.prepare(data, backbone, config.seed, resources.precision, resources.compile, objects)
    with within_memory("space", NOTHING):
        problems = [
            *objective_problems(study, goals),
            *fit_problems(study, workload),
            *base_problems(study, workload, fetch_of(config)),
        ]
    if problems:
        raise ConfigError(problems)
    return Prepared(study, data, workload, tuple(study_notes(study, data)))


def check_rows_of(folder: "StudyFolder", prepared: Prepared) -> None:
    """See that a study of one recipe is trained on the rows of the study that the recipe was found in.

    Args:
        folder: The study that the recipe was found in.
        prepared: The study of one recipe, whose seed may differ and with it the cut into splits.

    Raises:
        StudyError: The rows have changed since.
        DataError: The rows can no longer be cut as they were.
    """
    config, workload = folder.read_config(), prepared.workload
    if config.seed != workload.seed:
        data = load_data(config.data, config.tasks, config.seed, config.source_tasks)
        workload = replace(workload, data=data)
    way_out = "train the recipe itself on the new rows: mtl-search train RECIPE.yaml --study FILE"
    check_same_rows(folder.name, folder.read_data(), describe_data(workload), way_out)


def fetch_of(config: StudyConfig) -> Fetch:
    """Where a study's bases get earlier models from."""
    return partial(_trunk, storage=storage_of(config), uri=tracking_uri(config))


def _trunk(name: str, storage: StoragePath, uri: str) -> State:
    from mtl_search.export.trunks import trunk  # imports MLflow, which few studies need to be checked

    return trunk(name, storage, uri)
