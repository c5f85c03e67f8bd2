"""Markdown: an outcome in words and tables, for the terminal's report and MLflow's pages.

Every table stands behind a sentence that says what it shows; what a study did not measure is not mentioned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import stdev
from typing import TYPE_CHECKING

from mtl_search.results.caveats import NO_ALARM, RULE, caveats, unrepeated_note

if TYPE_CHECKING:
    from mtl_search.results.outcome import Outcome, TaskOutcome


def outcome_markdown(outcome: Outcome) -> str:
    """What was found, from the answer down to how it came about."""
    parts = [
        _headline(outcome),
        *([omitted_notes(outcome)] if outcome.undefined else []),
        *_alarm(outcome),
        *_trust(outcome),
        _tasks(outcome),
        f"One model of {outcome.cost()}.",
        *_candidates(outcome),
        _way(outcome),
    ]
    return "\n\n".join(parts)


def omitted_notes(outcome: Outcome) -> str:
    """Which tasks the figures on test leave out, and why; empty where they leave out none."""
    if not outcome.undefined:
        return ""
    names, total = ", ".join(outcome.undefined), len(outcome.tasks)
    of = f"over {total - len(outcome.undefined)} of {total} tasks" if len(outcome.undefined) < total else "missing"
    return f"Figures on test are {of}: the metric of {names} is not defined on the test labels."


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _headline(outcome: Outcome) -> str:
    said = f"mean over tasks of the relative gain; trial {outcome.number}"
    if outcome.repeated is None:
        return (
            f"**{outcome.improvement:+.2f} %** over single-task models on validation, "
            f"**{_percent(outcome.test_improvement)}** on test ({said}). Nothing was run again: the figure on "
            "validation is the best of all trials, and so too good on average."
        )
    test = _percent(None) if outcome.repeated_test is None else f"{outcome.repeated_test} %"
    runs = f"{outcome.repeated.runs} fresh seeds" if outcome.repeated.runs > 1 else "one fresh seed"
    return (
        f"**{outcome.repeated} %** over the best single-task models on validation, **{test}** on "
        f"test ({said}; mean over {runs}, with its 95 % interval)."
    )


def _trust(outcome: Outcome) -> Iterable[str]:
    """What a gain means, and what is to be held against it."""
    if outcome.repeated is None:
        return
    yield RULE
    gap = outcome.optimism or 0.0
    yield (
        f"The search's own run of the winner has {outcome.improvement:+.2f} % on validation, {abs(gap):.2f} points "
        f"{'above' if gap > 0 else 'below'} the fresh runs (the optimism gap: the best of many is partly the "
        f"luckiest), and {_percent(outcome.test_improvement)} on test."
    )
    if said := caveats(outcome):
        yield "\n".join(f"- {each[0].upper()}{each[1:]}." for each in said)


def _alarm(outcome: Outcome) -> Iterable[str]:
    """Tasks that lose, and what to do instead."""
    if not outcome.worse:
        if not outcome.untested:
            yield NO_ALARM
        return
    yield f"**Alarm: worse than alone, with 95 % confidence: {', '.join(outcome.worse)}.**"
    if outcome.proposal is not None:
        groups = " | ".join(", ".join(group) for group in outcome.proposal.groups)
        yield (
            f"Task affinity proposes a trunk for each of these groups instead: **{groups}**. That takes "
            f"{outcome.proposal.parameters:,} parameters against {outcome.parameters:,}."
        )


def _tasks(outcome: Outcome) -> str:
    seeds = max(len(task.baseline_runs) for task in outcome.tasks.values())
    spread = f" Single-task figures are means over {seeds} seeds ± their standard deviation." if seeds > 1 else ""
    again = any(task.repeated is not None for task in outcome.tasks.values())
    head = ["task", "metric", "multi-task (test)", "single-task (test)", "gain on test", "gain on validation"]
    rows = [
        [
            name,
            task.metric,
            _number(task.test),
            f"{_number(task.test_baseline)}{_spread(task.test_baseline_runs)}",
            _percent(task.test_gain),
            f"{task.gain:+.2f} %",
            *([_repeated(task), task.baseline_words] if again else []),
        ]
        for name, task in outcome.tasks.items()
    ]
    said = f"Each task against its best single-task model; a positive gain is better, whatever the metric.{spread}"
    return f"{said}\n\n{_table([*head, *(['gain of fresh runs', 'held against'] if again else [])], rows)}"


def _candidates(outcome: Outcome) -> Iterable[str]:
    if outcome.candidates:
        head = ["trial", "in the search", "fresh runs", "parameters", "seconds an epoch", "tied with the winner"]
        rows = [
            [
                str(each.number),
                f"{each.improvement:+.2f} %",
                f"{each.repeated} %",
                f"{each.parameters:,}",
                f"{each.epoch_seconds:.3g}",
                "winner" if each.number == outcome.number else "yes" if each.tied else "no",
            ]
            for each in outcome.candidates
        ]
        yield f"The best recipes of the search, each run again over fresh seeds:\n\n{_table(head, rows)}"
    if others := outcome.tied_others:
        yield f"Of these, the winner cannot be told from: {', '.join(map(str, others))}."
    if single := unrepeated_note(outcome):
        yield f"{single[0].upper()}{single[1:]}."
    if outcome.challenger is not None:
        yield f"**Challenger: trial {outcome.challenger}**, the cheapest that is as good as the winner."


def _way(outcome: Outcome) -> str:
    rows = [[name, *(f"{value:.4g}" for value in task.steps.values())] for name, task in outcome.tasks.items()]
    head = ["task", "base, fresh head", "fine-tuned alone", "fused", "joint"]
    return f"The way there, on validation:\n\n{_table(head, rows)}"


def _spread(runs: Sequence[float]) -> str:
    if len(runs) < 2:
        return ""
    return f" ± {stdev(runs):.2g}"


def _repeated(task: TaskOutcome) -> str:
    return "" if task.repeated is None else f"{task.repeated} %" + (" (worse)" if task.worse else "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
