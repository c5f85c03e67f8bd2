"""Side by side: a comparison of studies as tables on the terminal."""

from collections.abc import Callable, Iterator, Sequence

from mtl_search.display.recipe_words import duration
from mtl_search.recipe import Scalar
from mtl_search.report.comparison import Comparison, Side
from mtl_search.report.summary import number, percent, task_gain
from mtl_search.report.terminal import output_console, print_text, table_of
from mtl_search.results.outcome import Outcome
from mtl_search.results.statistics import Estimate

_MOST_TASKS = 12
"""Tasks in the table; of more, those that the studies differ most in."""


def print_comparison(comparison: Comparison) -> None:
    """Print studies side by side, and first why they do not compare."""
    console = output_console()
    for note in comparison.notes:
        print_text(console, f"note: {note}")
    for difference in comparison.differences:
        print_text(console, str(difference))
    labels = [side.label for side in comparison.sides]
    print_text(
        console,
        "\nWhat each study found: improvement over its single-task models, cost of winner and search.",
    )
    console.print(table_of(("", *labels), [row for row in _figures(comparison.sides) if any(row[1:])]))
    shown, left_out = _tasks(comparison.sides)
    more = f"; {left_out} more tasks, in which they differ less: --json" if left_out else ""
    print_text(console, f"\nEach task of the winners: metric on test (gain there), then gain on validation{more}.")
    rows = [[name, *(_task(side, name) for side in comparison.sides)] for name in shown]
    console.print(table_of(("task", *labels), rows))
    if differing := comparison.differing():
        print_text(console, "\nWhere the winners' recipes differ.")
        console.print(table_of(("", *labels), [[key, *map(_plain, values)] for key, values in differing.items()]))


def _figures(sides: Sequence[Side]) -> Iterator[list[str]]:
    def of(title: str, figure: Callable[[Outcome], str]) -> list[str]:
        return [title, *("" if side.outcome is None else figure(side.outcome) for side in sides)]

    yield of("improvement, in the search", lambda found: f"{found.improvement:+.2f} %")
    yield of("improvement, fresh runs", lambda found: _known(found.repeated))
    yield of("improvement on test", lambda found: percent(found.test_improvement))
    yield of("on test, fresh runs", lambda found: _known(found.repeated_test))
    yield of("tasks worse than alone", lambda found: str(len(found.worse)) if found.repeated else "")
    yield of("parameters", lambda found: f"{found.parameters:,}")
    yield of("multiply-adds a sample", lambda found: f"{found.multiply_adds:,}")
    yield of("winner", lambda found: f"trial {found.number}, epoch {found.best_epoch}")
    yield ["trials", *(", ".join(f"{n} {state}" for state, n in side.states.items()) for side in sides)]
    for title, cost in (("time of all trials", "seconds"), ("worker time of all trials", "worker_seconds")):
        totals = [side.total(cost) for side in sides]
        yield [title, *("" if total is None else duration(total) for total in totals)]


def _tasks(sides: Sequence[Side]) -> tuple[list[str], int]:
    """Tasks to show, and how many are left out."""
    ended = [side.outcome.tasks for side in sides if side.outcome is not None]
    names = list(dict.fromkeys(name for tasks in ended for name in tasks))
    if len(names) <= _MOST_TASKS:
        return names, 0

    def spread(name: str) -> float:
        gains = [task_gain(tasks[name]).mean for tasks in ended if name in tasks]
        return max(gains) - min(gains)

    return sorted(names, key=spread, reverse=True)[:_MOST_TASKS], len(names) - _MOST_TASKS


def _task(side: Side, name: str) -> str:
    if side.outcome is None or name not in side.outcome.tasks:
        return ""
    task = side.outcome.tasks[name]
    alarm = ", ALARM" if task.worse else ""
    return f"{task.metric} {number(task.test)} ({percent(task.test_gain)}), {percent(task_gain(task))}{alarm}"


def _known(estimate: Estimate | None) -> str:
    return "" if estimate is None else percent(estimate)


def _plain(value: Scalar) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
