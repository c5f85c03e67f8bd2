"""Running: a prepared study is searched from Python, in a script or a notebook, with or without a display."""

import logging
import os
import sys
from pathlib import Path
from typing import TextIO

from mtl_search.api.launch import run_study
from mtl_search.display.live import Display
from mtl_search.display.recipe_words import varying_parameters
from mtl_search.display.redirect_output import redirect_output
from mtl_search.results.outcome import Outcome
from mtl_search.study_store.folder import StudyFolder
from mtl_search.training.metrics import judging_metrics
from mtl_search.validation.prepare import Prepared, storage_of

_log = logging.getLogger("mtl_search")


def run_prepared(prepared: Prepared, *, resume: bool, verbose: bool, local: bool = False) -> Outcome:
    """Run a study; what Ray, Optuna and MLflow say goes to its log file.

    Args:
        prepared: Data, workload and space.
        resume: Whether to go on with a study of this name.
        verbose: Whether to show how it goes: as a live table on a terminal, by plain lines elsewhere. What a user
            should know is said in any case, quietly as warnings of the logger ``mtl_search``.
        local: Whether to run it in this process, without Ray.

    Raises:
        StudyError: Another driver runs the study, it exists, or nothing succeeded.
    """
    config = prepared.study.config
    told: list[str] = [f"note: {note}" for note in prepared.notes]
    with redirect_output(StudyFolder(storage_of(config), config.name).log) as terminal:
        if verbose:
            display = display_of(prepared, _own_output() or terminal)
            for line in told:
                display.notify(line)
            with display.shown():
                return run_study(prepared, [display], display.notify, resume=resume, local=local).outcome
        with Path(os.devnull).open("w") as nowhere:
            display = display_of(prepared, nowhere)
            for line in told:
                display.notify(line)

            def notify(line: str) -> None:
                told.append(line)
                display.notify(line)

            outcome = run_study(prepared, [display], notify, resume=resume, local=local).outcome
    for line in told:  # not before: until here the standard error is the log
        _log.warning(line)
    return outcome


def display_of(prepared: Prepared, stream: TextIO, *, joined: bool = False) -> Display:
    """What shows a study while it runs, and writes how it goes to the study's log.

    Args:
        prepared: The study.
        stream: Where the user sees it.
        joined: Whether other drivers run the study too.
    """
    config = prepared.study.config
    log = StudyFolder(storage_of(config), config.name).log
    metrics = judging_metrics(prepared.data)
    searched = varying_parameters(prepared.study.space.extreme_recipes())
    return Display(stream, config, metrics, searched, log, joined=joined)


def _own_output() -> TextIO | None:
    """Python's standard output where that is not the process's own, as in a notebook; None where it is."""
    try:
        return None if sys.stdout.fileno() == 1 else sys.stdout
    except (OSError, ValueError, AttributeError):
        return sys.stdout
