"""``mtl-search validate``: everything that can be checked before anything is trained."""

import argparse

from mtl_search.commands.shared import STUDY_FILE, prepared_study, print_line

HELP = "check a study file and its data without training"


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
    for task in prepared.data.all_tasks:
        kind = f"{task.kind}, {task.outputs} outputs" if task.outputs > 1 else task.kind
        of = "task" if task in prepared.data.tasks else "source task"
        print_line(f"  {of} {task.name}: {kind}, judged by {task.metric.name}")
    searched = len(prepared.study.space.domains)
    print_line(f"  {prepared.workload.blocks} blocks, {searched} searched parameters, {config.search.budget}")
    return 0
