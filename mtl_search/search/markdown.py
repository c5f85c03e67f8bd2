"""Markdown: an outcome in words and tables, for the terminal's report and MLflow's pages.

Every table stands behind a sentence that says what it shows; what a study did not measure is not mentioned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtl_search.search.outcome import Outcome, TaskOutcome


def in_markdown(outcome: Outcome) -> str:
    """What was found, from the answer down to how it came about."""
    parts = [
        _headline(outcome),
        *_alarm(outcome),
        *_trust(outcome),
        _tasks(outcome),
        f"One model of {outcome.cost()}.",
        *_candidates(outcome),
        _way(outcome),
    ]
    return "\n\n".join(parts)


def _headline(outcome: Outcome) -> str:
    return (
        f"**{outcome.improvement:+.2f} %** over single-task models on validation, "
        f"**{outcome.test_improvement:+.2f} %** on test (mean over tasks of the relative gain; trial {outcome.number})."
    )


def _trust(outcome: Outcome) -> Iterable[str]:
    """What fresh runs say of the headline."""
    if outcome.repeated is None:
        return
    runs = outcome.repeated.runs
    again = f"once more with a fresh seed: **{outcome.repeated} %**" if runs == 1 else ""
    again = again or f"again over {runs} fresh seeds: **{outcome.repeated} %** (mean and 95 % interval)"
    test = "" if outcome.repeated_test is None else f", on test {outcome.repeated_test} %"
    gap = outcome.optimism or 0.0
    yield (
        f"The winner was run {again} on validation{test}. The search's own figure is "
        f"{abs(gap):.2f} points {'above' if gap > 0 else 'below'} their mean, "
        "the optimism gap: the best of many is on average partly the luckiest."
    )


def _alarm(outcome: Outcome) -> Iterable[str]:
    """Tasks that lose, and what to do instead."""
    if not outcome.worse:
        if not outcome.untested:
            yield "No task does worse than alone with 95 % confidence."
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
            f"{task.test:.4g}",
            f"{task.test_baseline:.4g}{_spread(task.test_baseline_runs)}",
            f"{task.test_gain:+.2f} %",
            f"{task.gain:+.2f} %",
            *([_repeated(task)] if again else []),
        ]
        for name, task in outcome.tasks.items()
    ]
    said = f"Each task against its single-task model; a positive gain is better, whatever the metric.{spread}"
    return f"{said}\n\n{_table([*head, *(['gain of fresh runs'] if again else [])], rows)}"


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
        yield f"Trials that cannot be told from the winner: {', '.join(map(str, others))}."
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
