"""``mtl-search report``: what a study found."""

import argparse

from mtl_search.commands.shared import OUTPUT, STUDY_NAME, study_folder

HELP = "show a study's trials and its best recipe"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("study", help=STUDY_NAME)
    parser.add_argument("--output", help=OUTPUT)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from mtl_search.report import print_report

    print_report(study_folder(arguments))
    return 0
