"""``mtl-search extend``: more tasks for an exported model."""

import argparse
from pathlib import Path

from mtl_search.commands.shared import print_line

HELP = "add tasks to an exported model, and say what became of the old ones"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("model", help="the folder of an exported model; it stays as it is")
    parser.add_argument("file", help="data, tasks and seed as in a study file, and a section extend")
    parser.add_argument("--output", help="folder to write (default: MODEL-extended)")


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from mtl_search.extension.extend import extend_model
    from mtl_search.study_store.user_modules import use_folders

    folder, file = Path(arguments.model), Path(arguments.file)
    use_folders(file.parent)
    to = Path(arguments.output) if arguments.output else folder.with_name(f"{folder.resolve().name}-extended")
    extended = extend_model(folder, file, to, print_line)
    for line in [*extended.lines(), *extended.report.lines()]:
        print_line(line)
    print_line(f"wrote {extended.report.folder}: {', '.join(extended.report.files)}")
    return 0
