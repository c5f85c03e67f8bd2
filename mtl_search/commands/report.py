"""``mtl-search report``: what a study found."""

import argparse
from pathlib import Path

from mtl_search.commands.shared import JSON, OUTPUT, STUDY_NAME, print_line, study_folder

HELP = "show a study's trials and its best recipe"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("study", help=STUDY_NAME)
    parser.add_argument("--html", metavar="FILE", help="write one page with figures instead; it works offline")
    parser.add_argument("--output", help=OUTPUT)
    parser.add_argument("--json", action="store_true", help=JSON)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from mtl_search.report.document import study_document, to_json
    from mtl_search.report.terminal import print_report

    folder = study_folder(arguments)
    if arguments.html is not None:
        from mtl_search.report.html_page import write_html

        print_line(f"wrote {write_html(folder, Path(arguments.html))}")
    elif arguments.json:
        print_line(to_json(study_document(folder)))
    else:
        print_report(folder)
    return 0
