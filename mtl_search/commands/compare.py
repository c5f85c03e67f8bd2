"""``mtl-search compare``: several studies side by side."""

import argparse

from mtl_search.commands.shared import JSON, OUTPUT, STUDY_NAME, print_line, study_folder

HELP = "show studies side by side, and say where they do not compare"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("study", help=STUDY_NAME)
    parser.add_argument("others", nargs="+", metavar="study", help="and at least one other")
    parser.add_argument("--output", help=OUTPUT)
    parser.add_argument("--json", action="store_true", help=JSON)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from mtl_search.report.comparison import Comparison
    from mtl_search.report.document import to_json
    from mtl_search.report.side_by_side import print_comparison

    comparison = Comparison.of([study_folder(arguments, name) for name in (arguments.study, *arguments.others)])
    if arguments.json:
        print_line(to_json(comparison.to_dict()))
    else:
        print_comparison(comparison)
    return 0
