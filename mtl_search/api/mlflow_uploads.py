"""Publishing: what of a study goes to MLflow around the search itself: its inputs, its figures, its models.

Called by `launch`; the recorder hears of the rest.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import yaml

from mtl_search.data.study_data import StudyData
from mtl_search.errors import MtlSearchError
from mtl_search.export.registry import register_challenger, register_champion
from mtl_search.figures import write_figures
from mtl_search.passwords import without_passwords
from mtl_search.study_store.folder import StudyFolder
from mtl_search.tracking.datasets import dataset_inputs
from mtl_search.tracking.environment import environment, git_tags
from mtl_search.tracking.recorder import Recorder
from mtl_search.tracking.tracker import Tracker
from mtl_search.validation.study_file import LoadedStudy

Say = Callable[[str], None]
_PATIENCE = 30.0  # seconds
_log = logging.getLogger(__name__)


def log_start(study: LoadedStudy, data: StudyData, tracker: Tracker, recorder: Recorder) -> None:
    """Tell MLflow what is searched, with which data, and where the code comes from."""
    config, file = study.config, study.file
    study_file = yaml.safe_dump(without_passwords(config.model_dump(mode="json")), sort_keys=False)
    places = [Path.cwd(), *([file.resolve().parent] if file is not None else [])]
    texts = {"study.yaml": study_file, "environment.txt": environment()}
    recorder.study_started(data.describe(), texts, git_tags(places))
    tracker.log_inputs(None, dataset_inputs(config, data))


def log_figures(folder: StudyFolder, tracker: Tracker, notify: Say) -> None:
    """Draw what there is to see; a study that cost hours does not fail for want of a picture."""
    try:
        files = write_figures(folder, folder.path / "figures")
    except Exception as error:  # noqa: BLE001  said, and in the log
        _log.exception("the figures of study %s cannot be drawn", folder.name)
        notify(f"the figures cannot be drawn: {type(error).__name__}: {error}")
    else:
        for file in files:
            tracker.log_file(None, file, "figures")


def log_unfinished(folder: StudyFolder, tracker: Tracker, recorder: Recorder, notify: Say) -> None:
    """Tell MLflow how far a study came that ends by an error; nothing here may take that error's place."""
    try:
        recorder.study_left(folder.records(folder.read_config().search.storage))
    except Exception as error:  # noqa: BLE001  said, and in the log
        _log.exception("how far study %s came cannot be told", folder.name)
        notify(f"how far the study came cannot be told: {type(error).__name__}: {error}")
    log_figures(folder, tracker, notify)


def wait_for_delivery(tracker: Tracker) -> int:
    """Wait until MLflow has everything: half a minute where it is away, longer where it is only slow.

    Returns:
        Number of writes that still wait.
    """
    waiting = tracker.flush(_PATIENCE)
    while waiting and tracker.problem is None:
        before, waiting = waiting, tracker.flush(_PATIENCE)
        if waiting >= before:
            break
    return waiting


def register(folder: StudyFolder, uri: str, tracker: Tracker, notify: Say) -> None:
    """Register the winner and its challenger; a study that finds the same models again makes no new versions."""
    try:
        register_champion(folder, uri, tracker.run_id(None), folder.name)
        register_challenger(folder, uri, tracker.run_id(None), folder.name)
    except MtlSearchError as error:
        notify(f"the model is not registered: {error}")
