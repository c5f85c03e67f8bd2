"""Pareto: the models that no other beats in all tasks, among all that the study left on disk."""

from itertools import combinations
from typing import Any

from mtl_search.analysis.overview import Overview, running_minimum
from mtl_search.analysis.pareto import Point
from mtl_search.figures.base import (
    BLUE,
    GREY,
    ORANGE,
    Figure,
    Spec,
    coloured,
    label,
    layer,
    line_at,
    number,
    rows_high,
    tooltip,
    view,
    word,
)

_PLANES = 4
"""Up to so many tasks every pair has a plane of its own."""
_ROWS = 12
"""Up to so many tasks a line leads through the gains of all; beyond, nearly every model is on the front."""
_KINDS = ("on the front", "beaten", "winner")
_COLOURS = (BLUE, GREY, ORANGE)
_SHAPES = ["circle", "cross", "diamond"]


def pareto(overview: Overview) -> Figure:
    """Draw it: planes of pairs of tasks, gains over all tasks where they are more, mean and worst where they are many.

    Args:
        overview: The study's.
    """
    title = "Trade-off between the tasks"
    sentence = (
        "Each model that the study kept, by its relative gain (%) over the single-task model of each task on "
        "validation; no other model beats those on the Pareto front in every task."
    )
    tasks = list(overview.config.tasks)
    if overview.outcome is None:
        return Figure(title, sentence, reason="the study has not ended, so the baselines are not settled")
    if len(tasks) == 1:
        return Figure(title, sentence, reason="with a single task there is nothing to trade")
    if not overview.points:
        return Figure(title, sentence, reason="no model is left on disk")
    few = f"{len(overview.front)} of {len(overview.points)}"
    if len(tasks) > _ROWS:
        sentence = (
            "Each model that the study kept, by the mean gain (%) over its tasks and the gain of its worst task, on "
            f"validation; no other model beats those on the Pareto front ({few}) in every task."
        )
        return Figure(title, sentence, _plane(overview, None, None))
    if len(tasks) > _PLANES:
        sentence += f" A line is a model of the front ({few}), a row a task."
        return Figure(title, sentence, _over_tasks(overview, tasks))
    sentence += " Models that did badly stand at the lower end of an axis."
    planes = [_plane(overview, a, b) for a, b in combinations(tasks, 2)]
    return Figure(title, sentence, planes[0] if len(planes) == 1 else {"concat": planes})


def _kind(overview: Overview, trial: int) -> str:
    if overview.outcome is not None and trial == overview.outcome.number:
        return _KINDS[2]
    return _KINDS[0] if any(point.trial == trial for point in overview.front) else _KINDS[1]


def _mean(point: Point) -> float:
    return sum(point.gains.values()) / len(point.gains)


def _plane(overview: Overview, a: str | None, b: str | None) -> Spec:
    """Gains of two tasks; of no named ones their mean and the worst."""
    points = overview.points
    values = [(_mean(p), min(p.gains.values())) if a is None or b is None else (p.gains[a], p.gains[b]) for p in points]
    low = [running_minimum(side) for side in zip(*values, strict=True)]
    names = (a or "mean over the tasks", b or "worst task")
    rows: list[dict[str, Any]] = [
        {
            "x": max(x, low[0]),
            "y": max(y, low[1]),
            "kind": _kind(overview, point.trial),
            "trial": point.trial,
            "epoch": point.epoch,
            "a": _told(point, a, x),
            "b": _told(point, b, y),
        }
        for point, (x, y) in zip(points, values, strict=True)
    ]
    rows.sort(key=lambda row: (1, 0, 2)[_KINDS.index(row["kind"])])
    x, y = number("x", f"{names[0]} (gain in %)"), number("y", f"{names[1]} (gain in %)")
    marks = layer(
        rows,
        {"type": "point", "filled": True, "size": 65, "opacity": 0.9},
        x=x,
        y=y,
        color=coloured("kind", _KINDS, _COLOURS),
        shape=word("kind", scale={"domain": list(_KINDS), "range": _SHAPES}),
        tooltip=tooltip(("trial", "trial"), ("epoch", "epoch"), ("a", names[0]), ("b", names[1]), ("kind", "model")),
    )
    return view([line_at(0, "x", x), line_at(0, "y", y), marks])


def _told(point: Point, task: str | None, gain: float) -> str:
    return f"{gain:+.2f} %" if task is None else f"{label(point.metrics[task])} ({gain:+.2f} %)"


def _over_tasks(overview: Overview, tasks: list[str]) -> Spec:
    order = sorted(overview.front, key=lambda point: _kind(overview, point.trial) == _KINDS[2])
    rows = [
        {
            "task": task,
            "place": place,
            "gain": point.gains[task],
            "trial": str(point.trial),
            "kind": _kind(overview, point.trial),
            "said": f"{point.gains[task]:+.2f} %",
        }
        for point in order
        for place, task in enumerate(tasks)
    ]
    x, y = number("gain", "gain (%)"), word("task")
    told = tooltip(("trial", "trial"), ("task", "task"), ("said", "gain"))
    colour = coloured("kind", (_KINDS[0], _KINDS[2]), (BLUE, ORANGE))
    others = {"type": "line", "point": {"size": 14}, "opacity": 0.35, "strokeWidth": 1}
    winner = {"type": "line", "point": {"size": 45}, "strokeWidth": 3}
    lines = [
        layer(chosen, mark, x=x, y=y, order=number("place"), detail=word("trial"), color=colour, tooltip=told)
        for mark, chosen in (
            (others, [row for row in rows if row["kind"] != _KINDS[2]]),
            (winner, [row for row in rows if row["kind"] == _KINDS[2]]),
        )
    ]
    return view([line_at(0, "x", x), *lines], rows_high(len(tasks)))
