"""Affinity: how well each two tasks go together, and the groups that this makes."""

from mtl_search.analysis.overview import Affinity, Overview
from mtl_search.figures.base import DIVERGING, Figure, Spec, layer, number, tooltip, view, word

_MOST_NUMBERS = 12
"""With more tasks, numbers in the cells are too small to read."""
_MOST_COLUMNS = 30


def affinity(overview: Overview) -> Figure:
    """Draw it, a view for each kind.

    Args:
        overview: The study's.
    """
    title = "Task affinity"
    sentence = "How well a task (row) goes with another (column): blue pulls together, orange apart."
    found = [each for each in overview.affinities if any(each.matrix.values())]
    if not found:
        return Figure(title, sentence, reason="no sharing of this study measured it, and no trial its cosines")
    for each in found:
        groups = "; ".join(", ".join(group) for group in each.groups)
        if len(groups) < 300:
            sentence += f" The {each.kind.replace('_', ' ')} makes the groups {groups}."
    views = [_cells(each) for each in found]
    return Figure(title, sentence, views[0] if len(views) == 1 else {"concat": views})


def _cells(found: Affinity) -> Spec:
    tasks = [task for group in found.groups for task in group]
    rows = [
        {"a": a, "b": b, "value": value, "said": f"{value:.3g}"}
        for a in tasks
        for b in tasks
        if (value := found.matrix.get(a, {}).get(b)) is not None
    ]
    largest = max((abs(row["value"]) for row in rows), default=1.0) or 1.0  # type: ignore[arg-type]
    for row in rows:
        row["dark"] = abs(row["value"]) > 0.6 * largest  # type: ignore[arg-type]
    y = word("a", scale={"domain": tasks})
    angle = {"orient": "top", "labelAngle": -90, "labelLimit": 90, "labels": len(tasks) <= _MOST_COLUMNS}
    x = word("b", axis=angle, scale={"domain": tasks})
    kind = found.kind.replace("_", " ")
    colour = number("value", kind, scale={"scheme": DIVERGING, "domain": [-largest, largest], "reverse": True})
    told = tooltip(("a", "task"), ("b", "with"), ("said", kind))
    layers = [layer(rows, "rect", x=x, y=y, color=colour, tooltip=told)]
    if len(tasks) <= _MOST_NUMBERS:
        texts = layer(rows, {"type": "text", "fontSize": 11}, x=x, y=y, text={"field": "said"})
        texts["name"] = "numbers"
        texts["encoding"]["color"] = {"condition": {"test": "datum.dark", "value": "white"}, "value": "#222"}
        layers.append(texts)
    return view(layers, {"step": 34 if len(tasks) <= _MOST_NUMBERS else 13 if len(tasks) <= 60 else 8})
