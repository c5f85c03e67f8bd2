"""``mtl-search schema``: for editors that check YAML."""

import argparse
import json

from mtl_search.commands.shared import print_line

HELP = "print the JSON Schema of a study file, for editors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    del parser  # it has none


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from mtl_search.validation.schema import study_schema
    from mtl_search.validation.study_file import FAMILIES

    print_line(json.dumps(study_schema(FAMILIES), indent=2))
    return 0
