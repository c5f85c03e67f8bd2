"""What the model card says of tasks that were added later, and the small forms that a card is written in.

Reads the records that `extension.command` keeps in a champion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mtl_search.export.champion import Champion

_SECTION = """
## Extended {number}by {new}

The figures above are of the model before. It was extended from the exported model with the content hash `{hash}`, with
the tasks {old}.

{kept}

New tasks, trained on {rows} rows with `{method}`, seed {seed}:

{results}
{before_after}"""

_KEPT = (
    "Kept: every old parameter. The predictions of {old} are those of that model, bit for bit; the exported programs "
    "were checked for it."
)
_MOVED = (
    "Every parameter was trained; the outputs of the model before, on the new rows, held the old tasks. Their "
    "predictions moved on average by {moved} (mean absolute difference on the validation rows; of probabilities, or in "
    "spreads of the training targets)."
)
_JUDGED = """
Old tasks on labelled rows of the same file, before and after:

{table}
"""


def extended_section(champion: Champion) -> str:
    """What was added since the study, in Markdown; empty where nothing was."""
    records = champion.extensions
    return "".join(
        _section(record, f"({number} of {len(records)}) " if len(records) > 1 else "")
        for number, record in enumerate(records, 1)
    )


def extended_limits(champion: Champion) -> list[str]:
    """Lines for the card's limits."""
    lines = []
    for record in champion.extensions:
        for name, found in record["description"]["tasks"].items():
            if name in record["best_epochs"] and (labels := found["splits"]["train"]["labels"]) < 1000:
                lines.append(f"- Task {name} was trained on {labels:,} labels only.")
    if any(not record["keeps"] for record in champion.extensions):
        first = ", ".join(champion.outcome["tasks"])
        lines.append(f"- The results of {first} against single-task models were measured before the extension.")
    return lines


def _section(record: Mapping[str, Any], number: str) -> str:
    new, old = list(record["best_epochs"]), ", ".join(record["from"]["tasks"])
    moved = ", ".join(f"{name} {value:.2g}" for name, value in record["moved"].items())
    judged = {name: task for name, task in record["tasks"].items() if name not in new}
    ends = ("validation", "test")
    head = ["task", "metric", *(f"{split}, {model}" for split in ends for model in ("now", "trivial")), "epoch"]
    rows = [
        [name, _metric(record["tasks"][name]), *_pairs(record["tasks"][name], ("after", "trivial")), str(epoch)]
        for name, epoch in record["best_epochs"].items()
    ]
    held = ["task", "metric", *(f"{split}, {model}" for split in ends for model in ("before", "after"))]
    lines = [[name, _metric(task), *_pairs(task, ("before", "after"))] for name, task in judged.items()]
    described = record["description"]
    homes = {described["tasks"][name]["dataset"] for name in new}
    return _SECTION.format(
        number=number,
        new=", ".join(new),
        hash=record["from"]["hash"],
        old=old,
        kept=_KEPT.format(old=old) if record["keeps"] else _MOVED.format(moved=moved),
        rows=f"{sum(described['rows']['train'][home] for home in homes):,}",
        method=record["method"],
        seed=record["seed"],
        results=table(head, rows),
        before_after=_JUDGED.format(table=table(held, lines)) if judged else "",
    )


def _metric(task: Mapping[str, Any]) -> str:
    return f"{task['metric']} ({'higher' if task['higher_is_better'] else 'lower'} is better)"


def _pairs(task: Mapping[str, Any], models: tuple[str, str]) -> list[str]:
    return [shown(task[split][model]) for split in ("validation", "test") for model in models]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def many(count: int, noun: str) -> str:
    """A count with its noun, e.g. ``3 tasks``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shown(value: float | None) -> str:
    """A figure in four digits; a dash where there is none."""
    return "–" if value is None else f"{value:.4g}"
