"""Evidence: how far a study's figures can be trusted, in sentences that the terminal, the report and MLflow share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtl_search.results.outcome import Outcome

RULE = (
    "A gain is what one model has over the best single-task models known: those of the default recipe, those of any "
    "better single-task schedule, and controls, which train each task alone with the winner's own schedule and as many "
    "epochs in all. "
    "Which of them a task is held against is decided on other seeds than those that the figures come from. "
    "The winner and these models are then trained on the same fresh seeds, so an interval is that of their differences."
)
"""What a gain means, for whoever reads a report."""
NO_ALARM = "No task is shown to do worse than alone (95 % confidence over all tasks together)."
"""What it means that tasks were tested and none is an alarm."""
_MOST_TASKS = 6


def caveats(outcome: Outcome) -> list[str]:
    """What a reader should hold against the headline, a sentence each."""
    return [
        *_unjudged(outcome),
        *_undecided(outcome),
        *_over_first(outcome),
        *_over_rows(outcome),
        *_under_trained(outcome),
        *_light(outcome),
    ]


def unrepeated_note(outcome: Outcome) -> str:
    """What the single runs of the other trials tell; empty where all of them are told apart or nothing is known."""
    if not outcome.alike or outcome.reach is None:
        return ""
    number = len(outcome.alike)
    trials = f"{number} trials that were not run again lie" if number > 1 else "a trial that was not run again lies"
    return f"{trials} within the {outcome.reach:.1f} points by which one run may be off"


def _unjudged(outcome: Outcome) -> list[str]:
    if not outcome.unjudged:
        return []
    return [
        f"not judged, since their metric is not defined on the validation labels: {_listed(list(outcome.unjudged))}"
    ]


def _undecided(outcome: Outcome) -> list[str]:
    found = outcome.repeated
    if found is None:
        return []
    if found.low is None or found.high is None:
        return [f"{_runs(found.runs)} cannot tell how runs differ, so there is no interval: raise search.repeats.runs"]
    if found.low <= 0 <= found.high:
        return [
            f"whether it gains at all cannot be told from {_runs(found.runs)}: the interval holds 0 "
            "(more search.repeats.runs would narrow it)"
        ]
    return []


def _over_first(outcome: Outcome) -> list[str]:
    if outcome.first_improvement is None or outcome.repeated is None:
        return []
    share = outcome.first_improvement - outcome.repeated.mean
    return [
        f"over the default recipe's single-task models it would be {outcome.first_improvement:+.2f} %: {share:.2f} "
        "points of that come from the schedule and need no shared model"
    ]


def _over_rows(outcome: Outcome) -> list[str]:
    found = outcome.rows_test
    if found is None or found.low is None or found.high is None:
        return []
    return [f"on other test rows the same models may have {found.low:+.2f} to {found.high:+.2f} % (95 %, bootstrap)"]


def _under_trained(outcome: Outcome) -> list[str]:
    tasks = [name for name, task in outcome.tasks.items() if task.under_trained]
    if not tasks:
        return []
    return [
        f"the single-task models of {_listed(tasks)} were best in their last epoch and may be under-trained: raise "
        "single_task.epochs"
    ]


def _light(outcome: Outcome) -> list[str]:
    heaviest = max(task.weight for task in outcome.tasks.values())
    light = [
        f"{name} ({task.weight:.2g})"
        for name, task in outcome.tasks.items()
        if task.judged and task.weight < heaviest / 4
    ]
    if not light:
        return []
    return [
        f"these tasks hardly count in the improvement, by their weight: {_listed(light)}; the heaviest: {heaviest:.2g}"
    ]


def _runs(number: int) -> str:
    return "one fresh run" if number == 1 else f"{number} fresh runs"


def _listed(words: list[str]) -> str:
    rest = len(words) - _MOST_TASKS
    return ", ".join(words[:_MOST_TASKS]) + (f" and {rest} more" if rest > 0 else "")
