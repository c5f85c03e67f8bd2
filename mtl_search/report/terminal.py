"""The terminal report: every trial, then what was found: each task against its baseline, ties, the way, the recipe."""

import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mtl_search.analysis.overview import Overview
from mtl_search.display.recipe_words import recipe_words, varying_parameters
from mtl_search.report.summary import alarms, answer, no_alarm, number, percent, task_gain, ties
from mtl_search.results.caveats import caveats
from mtl_search.results.outcome import Outcome
from mtl_search.results.trial_record import TrialRecord
from mtl_search.study_store.folder import StudyFolder

_MOST_TASKS = 6
"""Columns of more tasks would leave the others no room."""
_STEPS = ("base", "single", "fused", "joint")
_PIPED_WIDTH = 160


def output_console() -> Console:
    """A console on standard output that does not cut what is piped."""
    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def print_report(folder: StudyFolder) -> None:
    """Print a study's trials and, once it has ended, its outcome.

    Raises:
        StudyError: There is no such study.
    """
    config = folder.read_config()
    console = output_console()
    trials = folder.records(config.search.storage)
    tasks = tuple(config.tasks) if len(config.tasks) <= _MOST_TASKS else ()
    maximised = " and ".join(config.search.objectives)
    print_text(
        console,
        f"{config.name}: {len(trials)} trials, a line each: how it ended, its objective ({maximised}), "
        "each task's metric on validation, what it cost, what it chose.",
    )
    console.print(_trials(trials, tasks))
    if not tasks:
        print_text(console, f"Metrics of the {len(config.tasks)} tasks: mtl-search report {folder.name} --json")
    written = folder.read_outcome()
    if written is None:
        print_text(console, "the study has not ended: mtl-search search FILE --resume goes on with it")
        return
    outcome = Outcome.from_dict(written)
    for line in [
        "",
        *answer(config.name, outcome),
        *caveats(outcome),
        *(alarms(outcome, brief=False) or [no_alarm(outcome)]),
        *ties(outcome),
    ]:
        print_text(console, line)
    for sentence, table in _tables(outcome):
        print_text(console, f"\n{sentence}")
        console.print(table)
    print_text(console, f"\nThe model has {outcome.cost()}. It lies in")
    print_text(console, outcome.folder)
    print_text(console, f"\nbest recipe (trial {outcome.number}, epoch {outcome.best_epoch}):")
    print_text(console, yaml.safe_dump(dict(outcome.recipe), sort_keys=False))
    print_text(console, f"with figures, for a browser: mtl-search report {folder.name} --html FILE")
    print_text(console, f"for scripts:                 mtl-search report {folder.name} --json")


def print_text(console: Console, line: str) -> None:
    """Print a line that is neither marked up nor cut."""
    console.print(line, markup=False, soft_wrap=True)


def table_of(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[str] = ()) -> Table:
    """A plain table.

    Args:
        columns: Their titles.
        rows: Cells, a column each; the widest are folded where the terminal is too narrow.
        numbers: Columns to be set flush right.
    """
    table = Table(box=None)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _trials(trials: Sequence[TrialRecord], tasks: Sequence[str]) -> Table:
    searched = varying_parameters([trial.recipe for trial in trials if trial.recipe is not None])
    measured = [name for name in ("seconds", "worker_seconds", "peak_mib") if any(getattr(t, name) for t in trials)]
    titles = {"seconds": "seconds", "worker_seconds": "worker-s", "peak_mib": "peak MiB"}
    others = ("trial", "state", "objective", *titles.values(), "recipe")
    numbers = ("objective", *titles_of(tasks, others), *(titles[name] for name in measured))
    rows = []
    for trial in trials:
        words = recipe_words(trial.recipe, searched) if trial.recipe is not None else ""
        if trial.duplicate_of is not None:
            words = f"same as trial {trial.duplicate_of}"
        costs = [getattr(trial, name) for name in measured]
        rows.append(
            [
                str(trial.number),
                trial.state,
                "" if trial.value is None else f"{trial.value:+.3f}",
                *(f"{trial.metrics[task]:.4g}" if task in trial.metrics else "" for task in tasks),
                *("" if cost is None else f"{cost:.1f}" for cost in costs),
                f"{words}  [{trial.reason}]" if trial.reason else words,
            ]
        )
    return table_of(("trial", "state", *numbers, "recipe"), rows, ("trial", *numbers))


def titles_of(tasks: Sequence[str], others: Sequence[str]) -> list[str]:
    """Titles of the tasks' columns in a table; a task that is named like one of the other columns is called a task."""
    return [f"task {task}" if task in others else task for task in tasks]


def _tables(outcome: Outcome) -> Iterator[tuple[str, Table]]:
    """What an outcome holds, each table with a sentence that says what it shows."""
    alone = max((len(task.baseline_runs) for task in outcome.tasks.values()), default=0)
    seeds = f" (mean of {alone} seeds on validation)" if alone > 1 else ""
    fresh = "" if outcome.repeated is None else "; gains with an interval are of the fresh runs"
    yield (
        f"Each task's metric against that of its single-task model{seeds}, and its relative gain, better where positive"
        f"{fresh}.",
        table_of(
            ("task", "metric", "on test", "alone", "gain on test", "on validation", "alone ", "gain on validation"),
            [
                [
                    name + (" (ALARM)" if task.worse else ""),
                    task.metric,
                    *map(number, (task.test, task.test_baseline)),
                    percent(task.repeated_test or task.test_gain),
                    *map(number, (task.validation, task.baseline)),
                    percent(task_gain(task)),
                ]
                for name, task in outcome.tasks.items()
            ],
            ("on test", "alone", "on validation", "alone "),
        ),
    )
    if any(task.standard_error is not None for task in outcome.tasks.values()):
        yield _baselines(outcome)
    if outcome.candidates:
        yield (
            "The trials that were run again over fresh seeds, winner first: what the search had, and what is left.",
            table_of(
                ("trial", "in the search", "fresh runs", "parameters", "s an epoch", ""),
                [
                    [
                        str(each.number),
                        f"{each.improvement:+.2f} %",
                        percent(each.repeated),
                        f"{each.parameters:,}",
                        f"{each.epoch_seconds:.2g}",
                        _standing(outcome, each.number, tied=each.tied),
                    ]
                    for each in outcome.candidates
                ],
                ("trial", "parameters", "s an epoch"),
            ),
        )
    yield (
        "The way there, on validation: the base with a fresh head, fine-tuned alone, fused, trained jointly.",
        table_of(
            ("task", "base", "alone", "fused", "joint"),
            [
                [name, *(f"{task.steps[step]:.4g}" if step in task.steps else "" for step in _STEPS)]
                for name, task in outcome.tasks.items()
            ],
            ("base", "alone", "fused", "joint"),
        ),
    )


def _baselines(outcome: Outcome) -> tuple[str, Table]:
    rows = [
        [
            name,
            task.baseline_words + (" (may be under-trained)" if task.under_trained else ""),
            "" if task.labels is None else f"{task.labels:,}",
            "" if task.standard_error is None else f"{task.standard_error:.2g}",
            f"{task.weight:.2g}",
        ]
        for name, task in outcome.tasks.items()
    ]
    numbers = ("labels", "standard error", "weight")
    said = "What each task is held against, how far validation rows tell the metric, and how much its gain counts."
    return said, table_of(("task", "single-task models of", *numbers), rows, numbers)


def _standing(outcome: Outcome, number: int, *, tied: bool) -> str:
    if number == outcome.number:
        return "winner"
    if number == outcome.challenger:
        return "challenger: tied and cheaper"
    return "tied" if tied else "worse"


def status_lines(folder: StudyFolder) -> list[str]:
    """Who runs a study, its trials by state, the best so far.

    Raises:
        StudyError: There is no such study.
    """
    overview = Overview(folder)
    config, owner = overview.config, folder.owner
    if owner is not None:
        state = f"is being run by {owner}"
    else:
        state = "has ended" if overview.outcome is not None else "is run by nobody and has not ended"
    counts = Counter(record.state for record in overview.records)
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none yet"
    lines = [f"study {config.name} in {folder.storage} {state}", f"  trials: {told}; budget {config.search.budget}"]
    best = max(overview.improvements, key=lambda number: overview.improvements[number], default=None)
    if best is not None:
        lines.append(f"  best so far: trial {best}, {overview.judged_by} {overview.improvements[best]:.4g}")
    return lines
