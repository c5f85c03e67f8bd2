"""``mtl-search search``: run a study and say what it found."""

import argparse
import signal
from types import FrameType
from typing import TYPE_CHECKING

from mtl_search.commands.shared import OUTPUT, STUDY_FILE, prepared_study

if TYPE_CHECKING:
    from mtl_search.launch import Prepared

HELP = "search for the best multi-task model, and register it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("study", help=STUDY_FILE)
    parser.add_argument("--trials", type=int, help="trials in all (default: the study file's); more extend a study")
    parser.add_argument("--resume", action="store_true", help="go on with the study of this name")
    parser.add_argument("--seed", type=int, help="seed of everything (default: the study file's)")
    parser.add_argument("--output", help=OUTPUT)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    names = {"trials": "search.trials", "seed": "seed", "output": "storage"}
    chosen = {place: getattr(arguments, name) for name, place in names.items()}
    prepared = prepared_study(arguments.study, {place: value for place, value in chosen.items() if value is not None})
    return carry_out(prepared, f"mtl-search search {arguments.study} --resume", resume=arguments.resume)


def carry_out(prepared: "Prepared", again: str, *, resume: bool) -> int:
    """Run a study and say what it found.

    Args:
        prepared: The study.
        again: The command that goes on with it.
        resume: Whether to go on with a study of this name.
    """
    from mtl_search.display import Display, recipe_words, varying
    from mtl_search.launch import run_study, storage_of, tracking_uri
    from mtl_search.quiet import chatter_to
    from mtl_search.recipe import Recipe
    from mtl_search.search.folder import StudyFolder

    config = prepared.study.config
    folder = StudyFolder(storage_of(config), config.name)
    unit = "%" if config.search.objective not in config.tasks else ""
    metrics = {task.name: task.metric.name for task in prepared.data.tasks}
    searched = varying(prepared.study.space.corners())
    signal.signal(signal.SIGTERM, _interrupt)
    with chatter_to(folder.log) as stream:
        display = Display(stream, config.name, config.search.trials, unit, metrics, searched)
        for note in prepared.notes:
            display.say(f"note: {note}")
        try:
            with display.shown():
                display.say(f"study {config.name}: {config.search.trials} trials")
                outcome = run_study(prepared, [display], display.say, resume=resume)
        except KeyboardInterrupt:
            display.say(f"interrupted; nothing finished is lost. To go on: {again}")
            raise
        uri = tracking_uri(config)
        lines = [
            "",
            f"{config.name}: improvement over single-task models {outcome.improvement:+.2f} % on validation, "
            f"{outcome.test_improvement:+.2f} % on test",
        ]
        for name, task in outcome.tasks.items():
            lines.append(
                f"  {name}: {task.metric} on test {task.test:.4g} against {task.test_baseline:.4g} alone "
                f"({task.test_gain:+.2f} %; validation {task.gain:+.2f} %)"
            )
        lines += [
            f"best recipe (trial {outcome.number}, epoch {outcome.best_epoch}): "
            f"{recipe_words(Recipe.from_dict(outcome.recipe), searched)}",
            f"model: {outcome.folder} ({outcome.cost()})",
            f"export it:  mtl-search export {config.name}" + _output_flag(config.storage),
            f"look at it: mlflow ui --backend-store-uri {uri}"
            if "://" in uri and not uri.startswith("http")
            else f"look at it: {uri}",
            f"log:        {folder.log}",
        ]
        for line in lines:
            display.say(line)
    return 0


def _output_flag(storage: str) -> str:
    return "" if storage == "mtl_search_runs" else f" --output {storage}"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
