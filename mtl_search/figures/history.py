"""History: the improvement of every trial, and the best so far."""

from mtl_search.analysis.overview import Overview, running_minimum
from mtl_search.figures.base import BLUE, ORANGE, Figure, coloured, label, layer, line_at, number, tooltip, view, word

_STATES = ("complete", "stopped early")


def history(overview: Overview) -> Figure:
    """Draw it.

    Args:
        overview: The study's.
    """
    title, values = "Search history", overview.improvements
    what = overview.judged_by
    sentence = f"Each point is a trial's {what}; the line is the best so far of the trials that ran to their end."
    if not values:
        return Figure(title, sentence, reason="no trial has come to anything yet")
    complete = {record.number for record in overview.records if record.state == "complete"}
    low = running_minimum(list(values.values()))
    rows = [
        {
            "trial": trial,
            "value": max(value, low),
            "state": _STATES[trial not in complete],
            "said": label(value),
        }
        for trial, value in values.items()
    ]
    hidden = sum(value < low for value in values.values())
    if hidden:
        sentence += f" Below the axis, and so drawn at its lower end: {hidden}."
    best, steps = None, []
    for trial in sorted(complete & values.keys()):
        best = values[trial] if best is None else max(best, values[trial])
        steps.append({"trial": trial, "value": max(best, low), "said": label(best)})
    if steps:
        steps.append({**steps[-1], "trial": max(values)})
    axis = {"x": number("trial", "trial", axis={"tickMinStep": 1}), "y": number("value", what)}
    shown = tooltip(("trial", "trial"), ("said", what))
    layers = [
        layer(steps, {"type": "line", "interpolate": "step-after", "color": BLUE}, **axis, tooltip=shown),
        layer(
            rows,
            {"type": "point", "filled": True, "size": 55, "opacity": 0.9},
            **axis,
            color=coloured("state", _STATES, (BLUE, ORANGE)),
            shape=word("state", scale={"domain": list(_STATES), "range": ["circle", "triangle-down"]}),
            tooltip=[*shown, *tooltip(("state", "state"))],
        ),
    ]
    return Figure(
        title, sentence, view([line_at(0, "y", axis["y"]), *layers] if low <= 0 <= max(values.values()) else layers)
    )
