"""``mtl-search validate``: everything that can be checked before anything is trained."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtl_search.commands.shared import STUDY_FILE, prepared_study, print_line
from mtl_search.input_kinds.encoding import parts_of

HELP = "check a study file and its data without training"
_MOST_NAMES = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("study", help=STUDY_FILE)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    prepared = prepared_study(arguments.study, {})
    config, described = prepared.study.config, prepared.data.describe()
    for note in prepared.notes:
        print_line(f"note: {note}")
    rows = {split: sum(counts.values()) for split, counts in described["rows"].items()}
    print_line(f"{config.name}: no errors")
    print_line(f"  rows: {', '.join(f'{count} {split}' for split, count in rows.items())}")
    for line in _inputs(prepared.data.preparation.spec):
        print_line(f"  {line}")
    for task in prepared.data.all_tasks:
        kind = f"{task.kind}, {task.outputs} outputs" if task.outputs > 1 else task.kind
        of = "task" if task in prepared.data.tasks else "source task"
        print_line(f"  {of} {task.name}: {kind}, judged by {task.metric.name}")
    searched = len(prepared.study.space.domains)
    print_line(f"  {prepared.workload.blocks} blocks, {searched} searched parameters, {config.search.budget}")
    return 0


def _inputs(spec: Mapping[str, Any]) -> Iterator[str]:
    """What the input columns are, a line for each kind.

    Args:
        spec: As in `Preparation.spec`.
    """
    for kind, part in parts_of(spec):
        if described := kind.describe(part):
            yield f"inputs that are {kind.heading}: {_folded(described)}"


def _folded(names: Sequence[str]) -> str:
    """Names on a line, the first few of many."""
    more = [f"... {len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
    return ", ".join([*names[:_MOST_NAMES], *more])
