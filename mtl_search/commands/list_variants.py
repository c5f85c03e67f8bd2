"""``mtl-search list``: the variants of each family."""

import argparse

from mtl_search.commands.shared import print_line

HELP = "list the variants of each family with their parameters"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("family", nargs="?", help="only this family")


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from mtl_search.validation.schema import describe_families
    from mtl_search.validation.study_file import FAMILIES

    for line in describe_families(FAMILIES, arguments.family):
        print_line(line)
    return 0
