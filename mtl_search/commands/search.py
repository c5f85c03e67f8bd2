"""``mtl-search search``: run a study and say what it found."""

import argparse
import shlex
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

from mtl_search.commands.shared import JSON, LOCAL, OUTPUT, STUDY_FILE, prepared_study, print_line

if TYPE_CHECKING:
    from mtl_search.api.launch import SearchEnd
    from mtl_search.config.study_config import StudyConfig
    from mtl_search.study_store.folder import StudyFolder
    from mtl_search.validation.prepare import Prepared

HELP = "search for the best multi-task model, and register it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("study", help=STUDY_FILE)
    parser.add_argument("--trials", type=int, help="trials in all (default: the study file's); more extend a study")
    going_on = parser.add_mutually_exclusive_group()
    going_on.add_argument("--resume", action="store_true", help="go on with the study of this name")
    going_on.add_argument("--join", action="store_true", help="run the study together with other drivers that join it")
    parser.add_argument("--seed", type=int, help="seed of everything (default: the study file's)")
    parser.add_argument("--output", help=OUTPUT)
    parser.add_argument("--json", action="store_true", help=JSON)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--local", action="store_true", help=LOCAL)
    where.add_argument(
        "--address",
        help="run on a Ray cluster: auto or HOST:PORT joins the one that this machine is part of; http://HOST:8265 "
        "(its dashboard) or ray://HOST:10001 submits a job (default: RAY_ADDRESS, else a Ray on this machine alone)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from mtl_search.pool.addresses import address_of, asks_for_a_job, job_notes, join

    names = {"trials": "search.trials", "seed": "seed", "output": "storage"}
    chosen = {place: getattr(arguments, name) for name, place in names.items()}
    chosen = {place: value for place, value in chosen.items() if value is not None}
    address = None if arguments.local else address_of(arguments.address)
    if address is not None and asks_for_a_job(address):
        return _submit(arguments, chosen, address)
    join(address)
    prepared = prepared_study(arguments.study, chosen)
    given = [word for word in _options(arguments) if word not in ("--json", "--resume", "--join")]
    given += [word for word in ("--address", arguments.address) if arguments.address]
    going_on = "--join" if arguments.join else "--resume"
    again = job_notes().get("mtl_search.again") or shlex.join(
        ["mtl-search", "search", arguments.study, going_on, *given]
    )
    modes = {name: getattr(arguments, name) for name in ("resume", "join", "json", "local")}
    return carry_out(prepared, again, **modes)


def _submit(arguments: argparse.Namespace, overrides: Mapping[str, Any], address: str) -> int:
    """Run the study as a job of a cluster, and tell what it prints until it ends or this shell goes away."""
    from mtl_search.cluster.submit import document_in, exit_code_of, line_printer, submit
    from mtl_search.study_store.user_modules import use_folders
    from mtl_search.validation.study_file import find_study, load_study

    path, told = find_study(arguments.study), sys.stderr if arguments.json else sys.stdout
    use_folders(path.parent)
    study = load_study(str(path), overrides, read_data=False)  # the data may lie where the cluster alone sees it
    begun = submit(study, _options(arguments), address, lambda line: print(line, file=told))
    print(f"job {begun.job} at {begun.server.url} goes on without this shell. To come back:", file=told)
    for line in begun.ways_back:
        print(f"  {line}", file=told)
    try:
        ended = begun.server.follow(begun.job, line_printer(told))
    except KeyboardInterrupt:
        print(f"\nleft; job {begun.job} goes on. To come back: {begun.ways_back[0]} --follow", file=told)
        raise
    if arguments.json and (document := document_in(begun.server.log(begun.job))) is not None:
        print_line(document)
    return exit_code_of(ended)


def _options(arguments: argparse.Namespace) -> list[str]:
    """The options that were given, for the same command elsewhere."""
    here = {"study", "address", "run"}
    given = {name: value for name, value in vars(arguments).items() if name not in here and value not in (None, False)}
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in given.items()]


def carry_out(
    prepared: "Prepared", again: str, *, resume: bool, join: bool = False, json: bool = False, local: bool = False
) -> int:
    """Run a study and say what it found.

    Args:
        prepared: The study.
        again: The command that goes on with it.
        resume: Whether to go on with a study of this name.
        join: Whether other drivers may run it too.
        json: Whether standard output gets one JSON document and nothing else.
        local: Whether to run it in this process, without Ray.
    """
    from mtl_search.api.launch import run_study
    from mtl_search.api.running import display_of
    from mtl_search.display.recipe_words import varying_parameters
    from mtl_search.display.redirect_output import redirect_output
    from mtl_search.report.document import study_document, to_json
    from mtl_search.report.summary import summary
    from mtl_search.study_store.folder import StudyFolder
    from mtl_search.validation.prepare import storage_of

    config = prepared.study.config
    folder = StudyFolder(storage_of(config), config.name)
    searched = varying_parameters(prepared.study.space.extreme_recipes())
    signal.signal(signal.SIGTERM, _interrupt)
    with redirect_output(folder.log, 2 if json else 1) as stream:
        display = display_of(prepared, stream, joined=join)
        for note in prepared.notes:
            display.notify(f"note: {note}")
        try:
            with display.shown():
                display.notify(f"study {config.name}: {config.search.budget}")
                ended = run_study(prepared, [display], display.notify, resume=resume, join=join, local=local)
        except KeyboardInterrupt:
            display.notify(f"interrupted; nothing finished is lost. To go on: {again}")
            raise
        for line in summary(config.name, ended.outcome, searched, _commands(config, folder, ended)):
            display.notify(line)
    if json:
        print_line(to_json(study_document(folder)))
    return 0


def _commands(config: "StudyConfig", folder: "StudyFolder", ended: "SearchEnd") -> list[str]:
    """How to go on, a line each."""
    from mtl_search.analysis.next_commands import export_command, output_option
    from mtl_search.passwords import without_passwords
    from mtl_search.validation.prepare import tracking_uri

    flag, uri = output_option(config), without_passwords(tracking_uri(config))
    page = None if ended.page is None else without_passwords(ended.page)
    lines = [
        f"export it:  {export_command(config, ended.outcome.recipe)}",
        f"all trials: mtl-search report {config.name}{flag} (--html FILE for a page with figures)",
    ]
    if "://" in uri and not uri.startswith("http"):
        lines.append(f"look at it: mlflow ui --backend-store-uri {uri}")
        lines += [f"            then open {page}"] if page is not None else []
    else:
        lines.append(f"look at it: {page or uri}")
    return [*lines, f"log:        {folder.log}"]


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
