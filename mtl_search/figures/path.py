"""Path: what each step from the base to the joint model was worth, task by task."""

from statistics import median
from typing import Any

from mtl_search.analysis.overview import Overview
from mtl_search.figures.base import BLUE, GREY, MANY, Figure, coloured, label, layer, line_at, number, tooltip, view

_STEPS = {"base": "base", "single": "alone", "fused": "fused", "joint": "joint"}
_TICKS = [-1000, -300, -100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100, 300, 1000]


def path(overview: Overview) -> Figure:
    """Draw it.

    Args:
        overview: The study's.
    """
    title = "From the base to the joint model"
    sentence = (
        "Each task's metric on validation on the winner's way, as relative gain (%) over its single-task baseline: "
        "the base with a fresh head, fine-tuned alone, right after fusion, jointly trained. The scale is linear near 0 "
        "and logarithmic beyond."
    )
    outcome = overview.outcome
    if outcome is None:
        return Figure(title, sentence, reason="the study has not ended, so there is no winner")
    goals = outcome.objective.goals
    rows: list[dict[str, Any]] = [
        {
            "task": name,
            "step": _STEPS.get(step, step),
            "gain": goals[name].gain(value),
            "said": f"{goals[name].gain(value):+.2f} %",
            "metric": f"{task.metric} {label(value)}",
        }
        for name, task in outcome.tasks.items()
        for step, value in task.steps.items()
    ]
    if not rows:
        return Figure(title, sentence, reason="the winner's trial noted no steps")
    x = {"field": "step", "type": "ordinal", "sort": None, "title": None, "axis": {"labelAngle": 0, "labelPadding": 6}}
    scale = {"type": "symlog", "constant": 1}
    axis = {"values": _TICKS, "format": "+d"}
    y = number("gain", "gain (%)", scale=scale, axis=axis)
    told = tooltip(("task", "task"), ("step", "step"), ("metric", "metric"), ("said", "gain"))
    mark = {"type": "line", "point": {"size": 45, "filled": True}}
    tasks = list(outcome.tasks)
    if len(tasks) <= MANY:
        layers = [layer(rows, mark, x=x, y=y, color=coloured("task", tasks), tooltip=told)]
    else:
        steps = list(dict.fromkeys(row["step"] for row in rows))
        middle = [{"step": step, "gain": median(r["gain"] for r in rows if r["step"] == step)} for step in steps]
        thin = {"type": "line", "color": GREY, "strokeWidth": 0.6}
        detail = {"field": "task", "type": "nominal"}
        layers = [
            layer(rows, thin, x=x, y=y, detail=detail, tooltip=told),
            layer(middle, {"type": "line", "color": BLUE, "strokeWidth": 4}, x=x, y=y),
        ]
        sentence += " Grey: the tasks; blue: their median."
    return Figure(title, sentence, view([line_at(0, "y", y), *layers], 300))
