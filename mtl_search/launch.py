"""Launch: a checked study file -> data, workload, search, tracking, the registered champion.

Puts together what the layers below keep apart; the command line calls it, and so does a user's own script.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mtl_search.alignment import ALIGNMENTS
from mtl_search.catalog import LoadedStudy
from mtl_search.config import StudyConfig
from mtl_search.data import StudyData, load_data
from mtl_search.errors import ConfigError, MtlSearchError, Problem
from mtl_search.export.trunks import trunk
from mtl_search.fusion import FUSIONS
from mtl_search.models.backbones import BACKBONES
from mtl_search.models.sharing import SHARINGS
from mtl_search.objects import Luggage
from mtl_search.publishing import Say, delivered, log_figures, register, say_left, say_start
from mtl_search.search.affinity_file import AffinityFile
from mtl_search.search.folder import StudyFolder
from mtl_search.search.outcome import Outcome
from mtl_search.search.overview import Overview
from mtl_search.search.study import Study
from mtl_search.search.watchers import StudyWatcher
from mtl_search.tracking import Tracker
from mtl_search.tracking.datasets import without_passwords
from mtl_search.tracking.recorder import Recorder
from mtl_search.tracking.system_metrics import system_metrics
from mtl_search.training.files import write_json
from mtl_search.training.metrics import task_goals
from mtl_search.training.pairs import Pairs
from mtl_search.training.workspace import Workload
from mtl_search.transfer import BASES
from mtl_search.transfer.bases import LearnedBase, MetaLearned
from mtl_search.transfer.bases.base import Fetch
from mtl_search.transfer.norms import has_batch_norm
from mtl_search.variants import build


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


def storage_of(config: StudyConfig) -> Path:
    """The storage folder, whatever the working folder of a worker is."""
    return Path(config.storage).expanduser().resolve()


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
    data = load_data(config.data, config.tasks, config.seed, config.source_tasks)
    task_goals(data, data.all_tasks)
    resources = config.resources
    parts = [config.backbone, *(part for recipe in study.space.corners() for part in recipe.components)]
    objects = Luggage.of(part.name for part in parts)
    workload = Workload.prepare(data, config.backbone, config.seed, resources.precision, resources.compile, objects)
    problems = [*_fit_problems(study, workload), *_base_problems(study, workload)]
    if problems:
        raise ConfigError(problems)
    notes = []
    blocks = build(BACKBONES, config.backbone).blocks(data.preparation.feature_shape)
    if has_batch_norm(blocks) and config.resources.most_workers > 1 and not config.resources.gpus_per_worker:
        notes.append(
            "the backbone has batch norm: CPU workers do not synchronise its statistics, so results differ "
            "a little from those of one worker (GPU workers do synchronise)"
        )
    return Prepared(study, data, workload, tuple(notes))


def _fit_problems(study: LoadedStudy, workload: Workload) -> list[Problem]:
    """Rules between the space and the data or the backbone."""
    problems: list[Problem] = []
    pairs, tasks = Pairs(workload), workload.data.tasks
    most = max(
        ((*tasks, *map(workload.task, workload.sources_of(recipe))) for recipe in study.space.corners()), key=len
    )
    for recipe in study.space.corners():
        try:
            build(SHARINGS, recipe.sharing).check(most)
            build(FUSIONS, recipe.fusion).check_kinds([task.kind for task in tasks])
            pairs.common_of(recipe.sharing, workload.sources_of(recipe))
        except ConfigError as error:
            problems += [Problem(f"space.{p.place}", p.rule, p.value, p.choices) for p in error.problems]
        try:
            build(ALIGNMENTS, recipe.alignment).check(most)
        except ConfigError as error:
            place = f"space.alignment.{recipe.alignment.name}"
            problems += [Problem(place, p.rule, p.value, p.choices) for p in error.problems]
    if not problems:
        problems += pairs.problems(study.space.corners())
    workers, datasets = study.config.resources.most_workers, {task.dataset for task in most}
    for section in ("single_task", "joint"):
        smallest = study.space.smallest(f"{section}.batch_size")
        least = max(workers, len(datasets) if section == "joint" else 1)
        if smallest < least:
            rule = f"must be at least {least}: a row for every worker and every data set"
            problems.append(Problem(f"space.{section}.batch_size", rule, smallest))
    if study.space.sets("joint.temperature") and len(datasets) == 1:
        problems.append(Problem("space.joint.temperature", "has no effect with one data set"))
    if study.space.sets("single_task.temperature"):
        problems.append(Problem("space.single_task.temperature", "has no effect: a single task has one data set"))
    return list(dict.fromkeys(problems))


def _base_problems(study: LoadedStudy, workload: Workload) -> list[Problem]:
    """Rules between the bases of the space and the backbone or the source tasks."""
    problems: list[Problem] = []
    workers = study.config.resources.most_workers
    for component in dict.fromkeys(recipe.base for recipe in study.space.corners()):
        place, base = f"space.base.{component.name}", build(BASES, component)
        if isinstance(base, LearnedBase):
            datasets = {task.dataset for task in workload.data.source_tasks}
            least = max(workers, 1 if isinstance(base, MetaLearned) else len(datasets))
            if base.schedule.batch_size < least:
                rule = f"must be at least {least}: a row for every worker and every data set"
                problems.append(Problem(f"{place}.batch_size", rule, base.schedule.batch_size))
            continue
        try:
            workload.base_state(component, _fetch(study.config))
        except MtlSearchError as error:
            found = error.problems if isinstance(error, ConfigError) else [Problem(place, str(error))]
            problems += [Problem(f"space.{p.place.removeprefix('space.')}", p.rule, p.value, p.choices) for p in found]
    return problems


def _fetch(config: StudyConfig) -> Fetch:
    """Where a study's bases get earlier models from."""
    return partial(trunk, storage=storage_of(config), uri=tracking_uri(config))


def run_study(prepared: Prepared, watchers: Sequence[StudyWatcher], say: Say, *, resume: bool) -> Outcome:
    """Search, track, and register the best model.

    Args:
        prepared: From ``prepare``.
        watchers: Hear of everything beside the tracking.
        say: Told in a line what a user should know.
        resume: Whether to go on with a study of this name.

    Returns:
        What was found.

    Raises:
        StudyError: Another driver runs the study, it exists, or nothing succeeded.
    """
    config = prepared.study.config
    folder = StudyFolder(storage_of(config), config.name)
    uri = tracking_uri(config)
    with folder.locked():
        folder.begin(config, resume=resume)
        write_json(folder.data_file, _data_card(prepared))
        names = {task.name: task.metric.name for task in prepared.data.all_tasks}
        with Tracker(folder.path / "tracking", uri, config.tracking.experiment or config.name, config.name) as tracker:
            recorder = Recorder(tracker, config, names, prepared.study.space)
            say_start(prepared.study, prepared.data, tracker, recorder)
            told: list[StudyWatcher] = [recorder, AffinityFile(folder), *watchers]
            study = Study(config, prepared.study.space, prepared.workload, folder, told, _fetch(config))
            try:
                with system_metrics(tracker) if config.tracking.system_metrics else nullcontext():
                    outcome = study.run()
            except BaseException:
                say_left(folder, tracker, recorder, say)
                raise
            log_figures(folder, tracker, say)
            overview = Overview(folder)
            recorder.study_ended(outcome, overview.records, overview.points)
            waiting = delivered(tracker)
            if waiting:
                say(
                    f"MLflow at {without_passwords(uri)} cannot be reached ({tracker.problem}): "
                    f"{waiting} writes wait in {folder.path / 'tracking'} and are delivered when the study is resumed"
                )
            else:
                register(folder, uri, tracker, say)
    return outcome


def _data_card(prepared: Prepared) -> dict[str, object]:
    """What export needs to know of the data, without the data."""
    data = prepared.data
    return {
        "tasks": [task.to_dict() for task in data.tasks],
        "source_tasks": [task.to_dict() for task in data.source_tasks],
        "preparation": data.preparation.to_dict(),
        "sample": data.sample,
        "description": data.describe(),
        "key": data.key,
        "datasets": list(data.datasets),
        "blocks": prepared.workload.blocks,
    }


def use_folder_of(study_file: Path) -> None:
    """Let ``python:`` sources and backbones be found beside the study file and in the working folder."""
    for place in (str(Path.cwd()), str(study_file.resolve().parent)):
        if place not in sys.path:
            sys.path.insert(0, place)
