"""Cost: what improvement was paid for with, in training time and in parameters of the model."""

from typing import Any

from mtl_search.analysis.overview import Overview, running_minimum
from mtl_search.figures.base import (
    BLUE,
    GREEN,
    ORANGE,
    Figure,
    Spec,
    coloured,
    label,
    layer,
    number,
    tooltip,
    view,
    word,
)

_KINDS = ("trial", "winner", "challenger")
_COLOURS = (BLUE, ORANGE, GREEN)
_SHAPES = ["circle", "diamond", "square"]


def cost(overview: Overview) -> Figure:
    """Draw it.

    Args:
        overview: The study's.
    """
    title, what = "What it cost", overview.judged_by
    sentence = (
        f"The {what} of the trials that ran to their end against the time that their training took (summed over "
        "the workers; both scales of cost are logarithmic) and against the parameters of the model. Trials that went "
        "badly stand at the lower end."
    )
    named = {} if overview.outcome is None else {overview.outcome.challenger: 2, overview.outcome.number: 1}
    rows: list[dict[str, Any]] = [
        {
            "value": overview.improvements[record.number],
            "said": label(overview.improvements[record.number]),
            "trial": record.number,
            "kind": _KINDS[named.get(record.number, 0)],
            "seconds": record.worker_seconds or record.seconds or None,
            "parameters": record.parameters or None,
            "shown": "–" if record.parameters is None else f"{record.parameters:,}",
            "time": label(record.worker_seconds or record.seconds, " s"),
        }
        for record in overview.records
        if record.state == "complete" and record.duplicate_of is None and record.number in overview.improvements
    ]
    if not rows:
        return Figure(title, sentence, reason="no trial has run to its end")
    low = running_minimum([row["value"] for row in rows])
    for row in rows:
        row["value"] = max(row["value"], low)
    rows.sort(key=lambda row: _KINDS.index(row["kind"]))
    axes = {"seconds": "training time (worker-seconds)", "parameters": "parameters"}
    views = [_against(rows, field, name, what) for field, name in axes.items() if any(row[field] for row in rows)]
    if not views:
        return Figure(title, sentence, reason="no trial noted its cost")
    return Figure(title, sentence, {"concat": views})


def _against(rows: list[dict[str, Any]], field: str, name: str, what: str) -> Spec:
    kinds = [kind for kind in _KINDS if any(row["kind"] == kind for row in rows)]
    points = layer(
        [row for row in rows if row[field]],
        {"type": "point", "filled": True, "size": 65, "opacity": 0.85},
        x=number(field, name, scale={"type": "log"}, axis={"format": "~s", "labelOverlap": True, "tickCount": 5}),
        y=number("value", what),
        color=coloured("kind", kinds, _COLOURS),
        shape=word("kind", scale={"domain": kinds, "range": _SHAPES[: len(kinds)]}),
        tooltip=tooltip(("trial", "trial"), ("said", what), ("time", "worker-seconds"), ("shown", "parameters")),
    )
    return view([points], 230)
