"""What every benchmark does with its figures: print them as a table, write them as JSON."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path


def print_table(title: str, figures: Mapping[str, float]) -> None:
    """Print one figure a line under a title."""
    width = max(map(len, figures))
    lines = [title, *(f"  {name:{width}}  {value:10.3f}" for name, value in figures.items())]
    sys.stdout.write("\n".join(lines) + "\n")


def write_figures(path: Path | None, figures: Mapping[str, object]) -> None:
    """Write the figures to a file, if one was asked for."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
