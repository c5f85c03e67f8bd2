"""Launch: a prepared study -> search, tracking, the registered champion.

Puts together what the layers below keep apart; the command line calls it, and so does a user's own script.
"""

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mtl_search.config import StudyConfig
from mtl_search.errors import StudyError
from mtl_search.passwords import without_passwords
from mtl_search.prepare import Prepared, fetch_of, storage_of, tracking_uri
from mtl_search.publishing import Say, delivered, log_figures, register, say_left, say_start
from mtl_search.search.affinity_file import AffinityFile, KeptInStorage
from mtl_search.search.callbacks import Callback, CallbackList
from mtl_search.search.data_card import data_card
from mtl_search.search.drivers import Drivers
from mtl_search.search.folder import StudyFolder
from mtl_search.search.outcome import Outcome
from mtl_search.search.overview import Overview
from mtl_search.search.own_modules import keep_folders
from mtl_search.search.runtime import Runtime
from mtl_search.search.study import Study, StudyInputs
from mtl_search.tracking import Tracker, deliver_left
from mtl_search.tracking.recorder import Recorder
from mtl_search.tracking.system_metrics import system_metrics
from mtl_search.training.metrics import judged_by


@dataclass(frozen=True)
class Ended:
    """A study that was run to its end.

    Attributes:
        outcome: What was found.
        page: Address of MLflow's page with the study's runs; None where MLflow could not be reached, or has no page.
    """

    outcome: Outcome
    page: str | None


def _runtime(config: StudyConfig, say: Say, *, local: bool) -> Runtime:
    """What a study runs on. Ray is imported only where the study runs on it.

    Raises:
        ConfigError: There is no room for the study.
    """
    if local:
        from mtl_search.execution.local_pool import check_local
        from mtl_search.search.local_runtime import local_runtime

        check_local(config.resources)
        return partial(local_runtime, tell=say)
    from mtl_search.execution.cluster import check_here
    from mtl_search.search.ray_runtime import ray_runtime

    check_here(config.resources)
    return ray_runtime


def run_study(
    prepared: Prepared,
    callbacks: Sequence[Callback],
    say: Say,
    *,
    resume: bool,
    join: bool = False,
    local: bool = False,
) -> Ended:
    """Search, track, and register the best model.

    Args:
        prepared: From ``prepare``.
        callbacks: Are told of everything, after the tracking.
        say: Told in a line what a user should know.
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
    folder = StudyFolder(storage_of(config), config.name, say)
    uri = tracking_uri(config)
    experiment = config.tracking.experiment or config.name
    if join and not isinstance(folder.home, Path):
        raise StudyError(f"--join needs a storage folder that all drivers share, got {folder.storage}")
    runtime = _runtime(config, say, local=local)
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
            told = CallbackList([recorder, AffinityFile(folder), KeptInStorage(folder), *callbacks])
            inputs = StudyInputs(config, prepared.study.space, prepared.workload, fetch_of(config))
            taken = ownership.taken
            study = Study(inputs, folder, told, runtime, drivers, taken)
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
