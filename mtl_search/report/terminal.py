"""The terminal report: the trial table, the best recipe, each task against its baseline."""

import sys
from collections.abc import Collection

import yaml
from rich.console import Console
from rich.table import Table

from mtl_search.display import recipe_words, varying
from mtl_search.search.folder import StudyFolder
from mtl_search.search.outcome import Outcome
from mtl_search.search.record import TrialRecord


def print_report(folder: StudyFolder) -> None:
    """Print a study's trials and, once it has ended, its outcome.

    Raises:
        StudyError: There is no such study.
    """
    config = folder.read_config()
    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 160)
    trials = folder.records(config.search.storage)
    table = Table(title=f"{config.name}: {len(trials)} trials, objective {config.search.objective}", box=None)
    for column in ("trial", "state", "objective", *config.tasks, "seconds", "recipe"):
        table.add_column(column, overflow="fold" if column == "recipe" else "ellipsis")
    searched = varying([trial.recipe for trial in trials if trial.recipe is not None])
    for trial in trials:
        table.add_row(*_row(trial, tuple(config.tasks), searched))
    console.print(table)
    written = folder.read_outcome()
    if written is None:
        console.print("the study has not ended: mtl-search search FILE --resume goes on with it")
        return
    outcome = Outcome.from_dict(written)
    console.print()
    console.print(outcome.to_markdown(), markup=False)
    console.print(f"\nbest recipe (trial {outcome.number}):")
    console.print(yaml.safe_dump(dict(outcome.recipe), sort_keys=False), markup=False)


def _row(trial: TrialRecord, tasks: tuple[str, ...], searched: Collection[str]) -> list[str]:
    words = recipe_words(trial.recipe, searched) if trial.recipe is not None else ""
    if trial.duplicate_of is not None:
        words = f"same as trial {trial.duplicate_of}"
    return [
        str(trial.number),
        trial.state,
        "" if trial.value is None else f"{trial.value:+.3f}",
        *(f"{trial.metrics[task]:.4g}" if task in trial.metrics else "" for task in tasks),
        "" if trial.seconds is None else f"{trial.seconds:.1f}",
        f"{words}  [{trial.reason}]" if trial.reason else words,
    ]
