"""Launch: a checked study file -> data, workload, search, tracking, the registered champion.

Puts together what the layers below keep apart; the command line calls it, and so does a user's own script.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mtl_search.catalog import LoadedStudy
from mtl_search.compatibility import base_problems, fit_problems, objective_problems
from mtl_search.config import StudyConfig
from mtl_search.data import StudyData, load_data
from mtl_search.errors import NOTHING, ConfigError, StudyError, within_memory
from mtl_search.execution.addresses import in_a_job
from mtl_search.execution.cluster import check_here
from mtl_search.export.trunks import trunk
from mtl_search.objects import Luggage
from mtl_search.outliving import outliving_problems
from mtl_search.passwords import without_passwords
from mtl_search.publishing import Say, delivered, log_figures, register, say_left, say_start
from mtl_search.search.affinity_file import AffinityFile, KeptInStorage
from mtl_search.search.data_card import check_same_rows, data_card
from mtl_search.search.drivers import Drivers
from mtl_search.search.folder import StudyFolder
from mtl_search.search.outcome import Outcome
from mtl_search.search.overview import Overview
from mtl_search.search.own_modules import keep_folders
from mtl_search.search.study import Study
from mtl_search.search.watchers import StudyWatcher
from mtl_search.storage import Place, place
from mtl_search.study_notes import study_notes
from mtl_search.tracking import Tracker, deliver_left
from mtl_search.tracking.recorder import Recorder
from mtl_search.tracking.system_metrics import system_metrics
from mtl_search.training.metrics import judged_by, task_goals
from mtl_search.training.workspace import Workload
from mtl_search.transfer.bases.base import Fetch


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


@dataclass(frozen=True)
class Ended:
    """A study that was run to its end.

    Attributes:
        outcome: What was found.
        page: Address of MLflow's page with the study's runs; None where MLflow could not be reached, or has no page.
    """

    outcome: Outcome
    page: str | None


def storage_of(config: StudyConfig) -> Place:
    """The storage, whatever the working folder of a worker is."""
    return place(config.storage)


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
    if in_a_job() and (problems := outliving_problems(config, uri)):
        raise ConfigError(problems)
    with within_memory("data", NOTHING), study.places.translated():
        data = load_data(config.data, config.tasks, config.seed, config.source_tasks)
        goals = task_goals(data, data.all_tasks)
    resources, backbone = config.resources, config.backbone
    parts = [config.backbone, *(part for recipe in study.space.corners() for part in recipe.components)]
    objects = Luggage.of(part.name for part in parts)
    with within_memory(f"backbone.{backbone.name}", dict(backbone.params)):
        workload = Workload.prepare(data, backbone, config.seed, resources.precision, resources.compile, objects)
    with within_memory("space", NOTHING):
        problems = [
            *objective_problems(study, goals),
            *fit_problems(study, workload),
            *base_problems(study, workload, _fetch(config)),
        ]
    if problems:
        raise ConfigError(problems)
    return Prepared(study, data, workload, tuple(study_notes(study, data)))


def check_rows_of(folder: StudyFolder, prepared: Prepared) -> None:
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
    check_same_rows(folder.name, folder.read_data(), data_card(workload), way_out)


def _fetch(config: StudyConfig) -> Fetch:
    """Where a study's bases get earlier models from."""
    return partial(trunk, storage=storage_of(config), uri=tracking_uri(config))


def run_study(
    prepared: Prepared, watchers: Sequence[StudyWatcher], say: Say, *, resume: bool, join: bool = False
) -> Ended:
    """Search, track, and register the best model.

    Args:
        prepared: From ``prepare``.
        watchers: Hear of everything beside the tracking.
        say: Told in a line what a user should know.
        resume: Whether to go on with a study of this name.
        join: Whether other drivers may run the study too; begins it where there is none.

    Returns:
        What was found, and where MLflow shows it.

    Raises:
        ConfigError: This machine has no room for the study.
        StudyError: Another driver runs the study, it exists, or nothing succeeded.
    """
    config = prepared.study.config
    folder = StudyFolder(storage_of(config), config.name, say)
    uri = tracking_uri(config)
    experiment = config.tracking.experiment or config.name
    if join and not isinstance(folder.home, Path):
        raise StudyError(f"--join needs a storage folder that all drivers share, got {folder.storage}")
    check_here(config.resources)
    with folder.locked(shared=join) as ownership:
        config = folder.begin(config, data_card(prepared.workload), resume=resume, join=join)
        keep_folders(folder, config.model_dump(mode="json"))
        names = judged_by(prepared.data)
        with ExitStack() as stack:
            objectives = len(config.search.objectives)
            shared = Drivers(folder.optuna_study(config.search.storage, objectives)) if join else None
            drivers = None if shared is None else stack.enter_context(shared)
            name = None if drivers is None else drivers.name
            tracker = stack.enter_context(Tracker(folder.path / "tracking", uri, experiment, config.name, name))
            recorder = Recorder(tracker, config, names, prepared.study.space)
            say_start(prepared.study, prepared.data, tracker, recorder)
            told: list[StudyWatcher] = [recorder, AffinityFile(folder), KeptInStorage(folder), *watchers]
            space, workload, taken = prepared.study.space, prepared.workload, ownership.taken
            study = Study(config, space, workload, folder, told, _fetch(config), drivers, taken)
            try:
                with system_metrics(tracker) if config.tracking.system_metrics else nullcontext():
                    outcome = study.run()
            except BaseException:
                if taken():
                    tracker.leave_open()
                else:
                    say_left(folder, tracker, recorder, say)
                raise
            if drivers is not None and not drivers.concludes:
                say("another driver has concluded the study")
                delivered(tracker)
                return Ended(outcome, tracker.page)
            deliver_left(folder.path / "tracking", uri, experiment, config.name)
            log_figures(folder, tracker, say)
            overview = Overview(folder)
            recorder.study_ended(outcome, overview.records, overview.points)
            waiting = delivered(tracker)
            if waiting:
                say(
                    f"MLflow at {without_passwords(uri)} cannot be reached ({tracker.problem}): "
                    f"{waiting} writes wait in {folder.home / 'tracking'} and are delivered when the study is resumed"
                )
            else:
                register(folder, uri, tracker, say)
            if drivers is not None:
                drivers.concluded()
            return Ended(outcome, tracker.page)
