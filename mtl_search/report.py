"""Report: what a study found, from its storage: the trial table, the best recipe, each task against its baseline."""

import sys

import yaml
from optuna.trial import FrozenTrial
from rich.console import Console
from rich.table import Table

from mtl_search.display import recipe_words
from mtl_search.recipe import Recipe
from mtl_search.search.folder import StudyFolder
from mtl_search.search.outcome import Outcome


def print_report(folder: StudyFolder) -> None:
    """Print a study's trials and, once it has ended, its outcome.

    Raises:
        StudyError: There is no such study.
    """
    config = folder.read_config()
    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 160)
    study = folder.optuna_study(config.search.storage)
    trials = study.get_trials(deepcopy=False)
    table = Table(title=f"{config.name}: {len(trials)} trials, objective {config.search.objective}", box=None)
    for column in ("trial", "state", "objective", *config.tasks, "seconds", "recipe"):
        table.add_column(column, overflow="fold" if column == "recipe" else "ellipsis")
    for trial in trials:
        table.add_row(*_row(trial, tuple(config.tasks)))
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


def _row(trial: FrozenTrial, tasks: tuple[str, ...]) -> list[str]:
    notes = trial.user_attrs
    metrics = notes.get("metrics", {})
    state = "interrupted" if "interrupted" in notes else trial.state.name.lower()
    words = recipe_words(Recipe.from_dict(notes["recipe"])) if "recipe" in notes else ""
    if "duplicate_of" in notes:
        words = f"same as trial {notes['duplicate_of']}"
    return [
        str(trial.number),
        state,
        "" if trial.value is None else f"{trial.value:+.3f}",
        *(f"{metrics[task]:.4g}" if task in metrics else "" for task in tasks),
        f"{notes['seconds']:.1f}" if "seconds" in notes else "",
        f"{words}  [{notes['reason']}]" if "reason" in notes else words,
    ]
