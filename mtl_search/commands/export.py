"""``mtl-search export``: the winner as files for deployment."""

import argparse
from pathlib import Path

from mtl_search.commands.shared import OUTPUT, STUDY_NAME, print_line, study_folder

HELP = "write a study's best model for deployment, checked against the trained one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("study", help=STUDY_NAME)
    parser.add_argument("--to", help="folder to write (default: STUDY-model)")
    parser.add_argument("--format", default="pt2", help="pt2, onnx, or both with a comma (default: pt2)")
    parser.add_argument("--prefer", metavar="TASK=WEIGHT,...", help="another model of the study: best by these weights")
    parser.add_argument("--output", help=OUTPUT)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from mtl_search.analysis.pareto import parse_preference
    from mtl_search.export.bundle import export_model

    prefer = None if arguments.prefer is None else parse_preference(arguments.prefer)
    folder = study_folder(arguments)
    to = Path(arguments.to or f"{folder.name}-model")
    report = export_model(folder, to, [name.strip() for name in arguments.format.split(",")], prefer)
    for line in report.lines():
        print_line(line)
    print_line(f"wrote {report.folder}: {', '.join(report.files)}")
    return 0
