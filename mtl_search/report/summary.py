"""Findings: what an outcome says, in sentences for a terminal; and the summary that a search ends with, one screen."""

import re
import textwrap
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from mtl_search.display.recipe_words import recipe_words
from mtl_search.recipe import Recipe
from mtl_search.results.caveats import NO_ALARM, caveats, unrepeated_note
from mtl_search.results.markdown import omitted_notes
from mtl_search.results.outcome import Outcome, TaskOutcome
from mtl_search.results.statistics import Estimate

LINES, COLUMNS = 24, 100
"""Of the screen that the summary fits."""
_FEWEST_TASKS = 4
_MOST_ALARMS = 3
_MOST_TIES = 10
_RECIPE_LINES = 3


def number(value: float | None) -> str:
    """A figure in four digits; a dash where there is none."""
    return "–" if value is None else f"{value:.4g}"


def percent(value: float | Estimate | None) -> str:
    """``-3.10 % [-4.00, -2.20]``, without the interval where none is known."""
    if value is None:
        return "–"
    if not isinstance(value, Estimate):
        return f"{value:+.2f} %"
    return percent(value.mean) + ("" if value.low is None else f" [{value.low:+.2f}, {value.high:+.2f}]")


def task_gain(task: TaskOutcome) -> Estimate:
    """A task's gain on validation, of fresh runs where there are any."""
    return task.repeated or Estimate(task.gain)


def answer(name: str, outcome: Outcome) -> list[str]:
    """The improvement in a line, in another how far the search's own figure is to be believed, and what is left out."""
    test, without = percent(outcome.test_improvement), [omitted_notes(outcome)] if outcome.undefined else []
    if outcome.repeated is None or (gap := outcome.optimism) is None:
        return [
            f"{name}: improvement over the best single-task models {outcome.improvement:+.2f} % on validation, {test} "
            "on test",
            "not run again, without controls: the figure on validation is the best of all trials, and so too good",
            *without,
        ]
    on_test = percent(outcome.repeated_test) if outcome.repeated_test is not None else test
    runs = "1 fresh run" if outcome.repeated.runs == 1 else f"{outcome.repeated.runs} fresh runs"
    intervals = ", with 95 % intervals" if outcome.repeated.runs > 1 else ""
    return [
        f"{name}: improvement over the best single-task models {percent(outcome.repeated)} on validation, {on_test} "
        "on test",
        f"figures are of {runs} of trial {outcome.number}{intervals}; the search had it at"
        f" {outcome.improvement:+.2f} %, {abs(gap):.2f} points too {'high' if gap >= 0 else 'low'}"
        + (f"; the model itself has {test} on test" if outcome.repeated_test is not None else ""),
        *without,
    ]


def alarms(outcome: Outcome, *, brief: bool = True) -> list[str]:
    """Tasks that do worse than alone, the worst first, and what to do about it; empty where there is none.

    Args:
        outcome: What was found.
        brief: Name a few tasks, count the rest, and cut off a long proposal.
    """
    most = _MOST_ALARMS if brief else len(outcome.tasks)
    found = sorted(outcome.worse, key=lambda name: task_gain(outcome.tasks[name]).mean)
    lines = [
        f"ALARM: task {name} does worse than alone: {percent(task_gain(outcome.tasks[name]))}" for name in found[:most]
    ]
    if len(found) > most:
        lines.append(f"ALARM: {len(found) - most} more tasks do worse than alone")
    if outcome.proposal is not None:
        groups = " | ".join("+".join(group) for group in outcome.proposal.groups)
        if brief and len(groups) > COLUMNS:
            groups = f"{len(outcome.proposal.groups)} groups ({groups[: COLUMNS // 2]}...)"
        cost = outcome.proposal.parameters / max(outcome.parameters, 1)
        lines.append(
            f"proposal: a trunk each for {groups}: {outcome.proposal.parameters:,} parameters, "
            f"{cost:.0%} of this model's"
        )
    return lines


def no_alarm(outcome: Outcome) -> str:
    """What it means that there is no alarm: nothing was found, or nothing could be."""
    if outcome.untested:
        return f"Whether a task does worse than alone was not tested: {outcome.untested}."
    return NO_ALARM


def ties(outcome: Outcome) -> list[str]:
    """Which trials are as good as the winner as far as can be told, and which of them is cheaper."""
    others, cheapest, single = outcome.tied_others, outcome.cheaper, unrepeated_note(outcome)
    if not others:
        return [single] if single else []
    named = ", ".join(map(str, others[:_MOST_TIES]))
    if len(others) > _MOST_TIES:
        named += f" and {len(others) - _MOST_TIES} more"
    line = f"tied with trial {outcome.number}, as far as can be told: {named}"
    if cheapest is not None:
        winner = next((each for each in outcome.candidates if each.number == outcome.number), None)
        pace = "" if winner is None else f" against {winner.epoch_seconds:.2g}"
        line += (
            f"; challenger, cheaper: trial {cheapest.number} ({cheapest.parameters / max(outcome.parameters, 1):.0%} "
            f"of the parameters, {cheapest.epoch_seconds:.2g} s an epoch{pace})"
        )
    return [line, *([single] if single else [])]


def summary(
    name: str, outcome: Outcome, searched: Collection[str], commands: Sequence[str], lines: int = LINES
) -> list[str]:
    """What a search ends with: one screen, whatever the number of tasks.

    Args:
        name: The study's.
        outcome: What it found.
        searched: Parameters worth showing of its recipe.
        commands: How to go on, a line each.
        lines: Of the screen.
    """
    head = [part for line in answer(name, outcome) for part in _wrapped(line)]
    judged = [part for line in alarms(outcome) or [no_alarm(outcome)] for part in _wrapped(line)]
    recipe = (
        f"best recipe (trial {outcome.number}, epoch {outcome.best_epoch}): "
        f"{recipe_words(Recipe.from_dict(outcome.recipe), searched)}"
    )
    tail = [part for line in ties(outcome) for part in _wrapped(line)]
    tail += _wrapped(recipe, _RECIPE_LINES)
    tail += [f"model: {_nearby(outcome.folder)}", *_wrapped(f"  {outcome.cost()}"), *commands]
    room = lines - len(head) - len(judged) - len(tail) - 1
    for caveat in map(_wrapped, caveats(outcome)):  # as many as leave room for the tasks; the report has all of them
        if len(caveat) <= room - min(_FEWEST_TASKS, len(outcome.tasks)):
            head, room = [*head, *caveat], room - len(caveat)
    return ["", *head, *judged, *_task_lines(outcome, max(_FEWEST_TASKS, room)), *tail]


def _task_lines(outcome: Outcome, room: int) -> Iterator[str]:
    """A line for each task; where these are too many, the worst, how many are left out, and the best."""
    names = list(outcome.tasks)
    if len(names) > room:
        names.sort(key=lambda name: task_gain(outcome.tasks[name]).mean)
        best = (room - 1) // 2
        worst = room - 1 - best
        left_out = len(names) - worst - best
        names = [*names[:worst], "", *names[len(names) - best :]]
    width = max(map(len, names)) + 1
    for name in names:
        if not name:
            yield f"  ... {left_out} tasks between these ..."
            continue
        task = outcome.tasks[name]
        yield (f"  {name + ':':<{width}} {task.metric} on test {_on_test(task)}; validation {percent(task_gain(task))}")


def _on_test(task: TaskOutcome) -> str:
    if task.test_gain is None:
        return "not defined"
    return f"{number(task.test)} against {number(task.test_baseline)} alone ({percent(task.test_gain)})"


def _wrapped(line: str, most: int | None = None) -> list[str]:
    """Lines that fit, with a number and its unit, and the two ends of an interval, on the same one."""
    whole = re.sub(r"(?<=\d) (?=%)|(?<=\d,) (?=[-+]?[\d.]+\])", "\N{NO-BREAK SPACE}", line)
    lines = textwrap.wrap(
        whole,
        COLUMNS,
        subsequent_indent="  ",
        max_lines=most,
        placeholder=" ...",
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    return [each.replace("\N{NO-BREAK SPACE}", " ") for each in lines]


def _nearby(folder: str) -> str:
    """A path as seen from the working folder, where it lies below it."""
    path, here = Path(folder), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else folder
