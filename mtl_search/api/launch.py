"""Launch: a prepared study -> search, tracking, the registered champion.

Puts together what the layers below keep apart; the command line calls it, and so does a user's own script.
"""

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mtl_search.analysis.overview import Overview
from mtl_search.api.mlflow_uploads import Say, log_figures, log_start, log_unfinished, register, wait_for_delivery
from mtl_search.config.study_config import StudyConfig
from mtl_search.errors import StudyError
from mtl_search.passwords import without_passwords
from mtl_search.results.outcome import Outcome
from mtl_search.search.callbacks import Callback, CallbackList
from mtl_search.search.driver_group import DriverGroup
from mtl_search.search.file_callbacks import AffinityFileCallback, StorageSyncCallback
from mtl_search.search.runtime import Runtime
from mtl_search.search.study import Study, StudyInputs
from mtl_search.study_store.data_card import describe_data
from mtl_search.study_store.folder import StudyFolder
from mtl_search.study_store.user_modules import keep_folders
from mtl_search.tracking.recorder import Recorder
from mtl_search.tracking.system_metrics import system_metrics
from mtl_search.tracking.tracker import Tracker, deliver_left
from mtl_search.training.metrics import judging_metrics
from mtl_search.validation.prepare import Prepared, fetch_of, storage_of, tracking_uri


@dataclass(frozen=True)
class SearchEnd:
    """A study that was run to its end.

    Attributes:
        outcome: What was found.
        page: Address of MLflow's page with the study's runs; None where MLflow could not be reached, or has no page.
    """

    outcome: Outcome
    page: str | None


def _runtime(config: StudyConfig, notify: Say, *, local: bool) -> Runtime:
    """What a study runs on. Ray is imported only where the study runs on it.

    Raises:
        ConfigError: There is no room for the study.
    """
    if local:
        from mtl_search.pool.local_pool import check_local
        from mtl_search.search.local_runtime import local_runtime

        check_local(config.resources)
        return partial(local_runtime, tell=notify)
    from mtl_search.pool.ray_cluster import check_local_resources
    from mtl_search.search.ray_runtime import ray_runtime

    check_local_resources(config.resources)
    return ray_runtime


def run_study(
    prepared: Prepared,
    callbacks: Sequence[Callback],
    notify: Say,
    *,
    resume: bool,
    join: bool = False,
    local: bool = False,
) -> SearchEnd:
    """Search, track, and register the best model.

    Args:
        prepared: From ``prepare``.
        callbacks: Are told of everything, after the tracking.
        notify: Told in a line what a user should know.
        resume: Whether to go on with a study of this name.
        join: Whether other drivers may run the study too; begins it where there is none.
        local: Whether to run it in this process, without Ray.

    Returns:
        What was found, and where MLflow shows it.

    Raises:
        ConfigError: This machine has no room for the study.
        StudyError: Another driver runs the study, it exists, or nothing succeeded.
    """
    config = prepared.study.config
    folder = StudyFolder(storage_of(config), config.name, notify)
    uri = tracking_uri(config)
    experiment = config.tracking.experiment or config.name
    if join and not isinstance(folder.location, Path):
        raise StudyError(f"--join needs a storage folder that all drivers share, got {folder.storage}")
    runtime = _runtime(config, notify, local=local)
    with folder.locked(shared=join) as lease:
        config = folder.begin(config, describe_data(prepared.workload), resume=resume, join=join)
        keep_folders(folder, config.model_dump(mode="json"))
        names = judging_metrics(prepared.data)
        with ExitStack() as stack:
            objectives = len(config.search.objectives)
            shared = DriverGroup(folder.optuna_study(config.search.storage, objectives)) if join else None
            drivers = None if shared is None else stack.enter_context(shared)
            name = None if drivers is None else drivers.name
            tracker = stack.enter_context(Tracker(folder.path / "tracking", uri, experiment, config.name, name))
            recorder = Recorder(tracker, config, names, prepared.study.space)
            log_start(prepared.study, prepared.data, tracker, recorder)
            told = CallbackList([recorder, AffinityFileCallback(folder), StorageSyncCallback(folder), *callbacks])
            inputs = StudyInputs(config, prepared.study.space, prepared.workload, fetch_of(config))
            taken = lease.taken
            study = Study(inputs, folder, told, runtime, drivers, taken)
            try:
                with system_metrics(tracker) if config.tracking.system_metrics else nullcontext():
                    outcome = study.run()
            except BaseException:
                if taken():
                    tracker.leave_open()
                else:
                    log_unfinished(folder, tracker, recorder, notify)
                raise
            if drivers is not None and not drivers.concludes:
                notify("another driver has concluded the study")
                wait_for_delivery(tracker)
                return SearchEnd(outcome, tracker.page)
            deliver_left(folder.path / "tracking", uri, experiment, config.name)
            _track_outcome(outcome, folder, uri, tracker, recorder, notify)
            if drivers is not None:
                drivers.concluded()
            return SearchEnd(outcome, tracker.page)


def _track_outcome(
    outcome: Outcome, folder: StudyFolder, uri: str, tracker: Tracker, recorder: Recorder, notify: Say
) -> None:
    """Log figures and outcome, and register the best model once MLflow has all of it."""
    log_figures(folder, tracker, notify)
    overview = Overview(folder)
    recorder.study_ended(outcome, overview.records, overview.points)
    waiting = wait_for_delivery(tracker)
    if not waiting:
        register(folder, uri, tracker, notify)
        return
    notify(
        f"MLflow at {without_passwords(uri)} cannot be reached ({tracker.problem}): {waiting} writes wait in "
        f"{folder.location / 'tracking'} and are delivered when the study is resumed"
    )
