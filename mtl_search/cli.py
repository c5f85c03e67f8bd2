"""The command line: a verb -> a function that parses, calls and prints."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from mtl_search.errors import MtlSearchError, ProblemsError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 if it did what was asked, 1 if nothing succeeded, 2 for the user's mistake, 130 when interrupted.
    """
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except MtlSearchError as error:
        lines = [str(p) for p in error.problems] if isinstance(error, ProblemsError) else [str(error)]
        for line in lines:
            sys.stderr.write(f"error: {line}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has had enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at exit
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mtl-search", description="Turn one backbone and N related tasks into the best single multi-task model."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    study_file = "a study file, or the name of a shipped one (see search_spaces/)"
    study_name = "a study's name or its study file"
    output = "storage folder (default: the study file's, else mtl_search_runs)"

    search = verb("search", _search, "search for the best multi-task model, and register it")
    search.add_argument("study", help=study_file)
    search.add_argument("--trials", type=int, help="trials in all (default: the study file's); more extend a study")
    search.add_argument("--resume", action="store_true", help="go on with the study of this name")
    search.add_argument("--seed", type=int, help="seed of everything (default: the study file's)")
    search.add_argument("--output", help=output)

    validate = verb("validate", _validate, "check a study file and its data without training")
    validate.add_argument("study", help=study_file)

    report = verb("report", _report, "show a study's trials and its best recipe")
    report.add_argument("study", help=study_name)
    report.add_argument("--output", help=output)

    export = verb("export", _export, "write a study's best model for deployment, checked against the trained one")
    export.add_argument("study", help=study_name)
    export.add_argument("--to", help="folder to write (default: STUDY-model)")
    export.add_argument("--format", default="pt2", help="pt2, onnx, or both with a comma (default: pt2)")
    export.add_argument("--output", help=output)

    extend = verb("extend", _extend, "add tasks to an exported model, and say what became of the old ones")
    extend.add_argument("model", help="the folder of an exported model; it stays as it is")
    extend.add_argument("file", help="data, tasks and seed as in a study file, and a section extend")
    extend.add_argument("--output", help="folder to write (default: MODEL-extended)")

    listing = verb("list", _list, "list the variants of each family with their parameters")
    listing.add_argument("family", nargs="?", help="only this family")

    verb("schema", _schema, "print the JSON Schema of a study file, for editors")
    return parser


def _search(arguments: argparse.Namespace) -> int:
    from mtl_search.display import Display, recipe_words, varying
    from mtl_search.launch import run_study, storage_of, tracking_uri
    from mtl_search.quiet import chatter_to
    from mtl_search.recipe import Recipe
    from mtl_search.search.folder import StudyFolder

    names = {"trials": "search.trials", "seed": "seed", "output": "storage"}
    chosen = {place: getattr(arguments, name) for name, place in names.items()}
    prepared = _prepare(arguments.study, {place: value for place, value in chosen.items() if value is not None})
    config = prepared.study.config
    folder = StudyFolder(storage_of(config), config.name)
    unit = "%" if config.search.objective not in config.tasks else ""
    metrics = {task.name: task.metric.name for task in prepared.data.tasks}
    searched = varying(prepared.study.space.corners())
    signal.signal(signal.SIGTERM, _interrupt)
    again = f"mtl-search search {arguments.study} --resume"
    with chatter_to(folder.log) as stream:
        display = Display(stream, config.name, config.search.trials, unit, metrics, searched)
        for note in prepared.notes:
            display.say(f"note: {note}")
        try:
            with display.shown():
                display.say(f"study {config.name}: {config.search.trials} trials")
                outcome = run_study(prepared, [display], display.say, resume=arguments.resume)
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


def _validate(arguments: argparse.Namespace) -> int:
    prepared = _prepare(arguments.study, {})
    config, described = prepared.study.config, prepared.data.describe()
    for note in prepared.notes:
        _print(f"note: {note}")
    rows = {split: sum(counts.values()) for split, counts in described["rows"].items()}
    _print(f"{config.name}: no errors")
    _print(f"  rows: {', '.join(f'{count} {split}' for split, count in rows.items())}")
    for task in prepared.data.all_tasks:
        kind = f"{task.kind}, {task.outputs} outputs" if task.outputs > 1 else task.kind
        of = "task" if task in prepared.data.tasks else "source task"
        _print(f"  {of} {task.name}: {kind}, judged by {task.metric.name}")
    searched = len(prepared.study.space.domains)
    _print(f"  {prepared.workload.blocks} blocks, {searched} searched parameters, {config.search.trials} trials")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from mtl_search.report import print_report

    print_report(_folder(arguments))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from mtl_search.export import export_model

    folder = _folder(arguments)
    to = Path(arguments.to or f"{folder.name}-model")
    report = export_model(folder, to, [name.strip() for name in arguments.format.split(",")])
    for line in report.lines():
        _print(line)
    _print(f"wrote {report.folder}: {', '.join(report.files)}")
    return 0


def _extend(arguments: argparse.Namespace) -> int:
    from mtl_search.extension.command import extend_model
    from mtl_search.launch import use_folder_of

    folder, file = Path(arguments.model), Path(arguments.file)
    use_folder_of(file)
    to = Path(arguments.output) if arguments.output else folder.with_name(f"{folder.resolve().name}-extended")
    extended = extend_model(folder, file, to, _print)
    for line in [*extended.lines(), *extended.report.lines()]:
        _print(line)
    _print(f"wrote {extended.report.folder}: {', '.join(extended.report.files)}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from mtl_search.catalog import FAMILIES
    from mtl_search.listing import describe_families

    for line in describe_families(FAMILIES, arguments.family):
        _print(line)
    return 0


def _schema(arguments: argparse.Namespace) -> int:
    from mtl_search.catalog import FAMILIES
    from mtl_search.listing import study_schema

    _print(json.dumps(study_schema(FAMILIES), indent=2))
    return 0


def _prepare(name: str, overrides: dict[str, Any]) -> Any:
    """Read and check a study file and its data."""
    from mtl_search.catalog import find_study, load_study
    from mtl_search.launch import prepare, use_folder_of

    path = find_study(name)
    use_folder_of(path)
    return prepare(load_study(str(path), overrides))


def _folder(arguments: argparse.Namespace) -> Any:
    """The folder of a study that is named, or whose file is."""
    from mtl_search.reading import read_yaml
    from mtl_search.search.folder import StudyFolder

    name, storage = arguments.study, "mtl_search_runs"
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        raw = read_yaml(path)
        name = str(raw.get("name", path.stem)) if isinstance(raw, dict) else path.stem
        storage = str(raw.get("storage", storage)) if isinstance(raw, dict) else storage
    folder = StudyFolder(Path(arguments.output or storage).expanduser().resolve(), name)
    folder.read_config()
    return folder


def _output_flag(storage: str) -> str:
    return "" if storage == "mtl_search_runs" else f" --output {storage}"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
