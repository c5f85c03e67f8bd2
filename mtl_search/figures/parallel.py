"""Parallel coordinates: every trial as a line through what was sampled for it."""

import math
from typing import Any

from mtl_search.analysis.overview import Overview, SearchedParameter
from mtl_search.figures.base import RAMP, Figure, label, layer, number, tooltip, view, word

_MOST = 40


def parallel(overview: Overview) -> Figure:
    """Draw it.

    Args:
        overview: The study's.
    """
    title, what = "Recipes and what they came to", overview.judged_by
    sentence = (
        f"A line is a trial, a row a searched parameter from its low end (left) to its high end (right), choices in "
        f"the order of the study file; the brighter, the better its {what}. A gap: the trial does not have it."
    )
    values = {number: value for number, value in overview.improvements.items() if overview.params.get(number)}
    searched = overview.searched[:_MOST]
    if len(values) < 2 or not searched:
        return Figure(title, sentence, reason="it takes two trials that sampled something")
    order = sorted(values, key=values.__getitem__)
    # The rank colours: a single trial that went badly would make all others look alike.
    ranks = {trial: place / max(len(order) - 1, 1) for place, trial in enumerate(order)}
    rows = [
        {
            "parameter": each.name,
            "place": place,
            "at": _place(each, overview.params[trial].get(each.name)),
            "is": _said(overview.params[trial].get(each.name)),
            "trial": str(trial),
            "rank": ranks[trial],
            "value": label(values[trial]),
        }
        for trial in order
        for place, each in enumerate(searched)
    ]
    y = word("parameter")
    x = number("at", None, scale={"domain": [0, 1]}, axis=None)
    lines = layer(
        rows,
        {"type": "line", "point": {"size": 30, "filled": True}, "opacity": 0.6, "invalid": "break-paths-show-domains"},
        x=x,
        y=y,
        order=number("place"),
        detail=word("trial"),
        color=number(
            "rank",
            "rank (100% is best)",
            scale={"scheme": RAMP},
            legend={"format": "%", "tickCount": 3},
        ),
        tooltip=tooltip(("trial", "trial"), ("value", what), ("parameter", "parameter"), ("is", "value")),
    )
    ends = [_ends(each) for each in searched]
    low = layer(
        ends, {"type": "text", "align": "left", "dy": 9, "fontSize": 9}, y=y, x={"value": 2}, text={"field": "low"}
    )
    high = layer(
        ends,
        {"type": "text", "align": "right", "dy": 9, "fontSize": 9},
        y=y,
        x={"value": "width"},
        text={"field": "high"},
    )
    return Figure(title, sentence, view([lines, low, high], {"step": 34}))


def _place(searched: SearchedParameter, value: Any) -> float | None:
    """Where on its row, in [0, 1]."""
    if value is None and None not in searched.choices:
        return None
    if searched.choices:
        known = searched.choices.index(value) if value in searched.choices else 0
        return 0.5 if len(searched.choices) == 1 else known / (len(searched.choices) - 1)
    low, high = searched.low, searched.high
    if searched.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return 0.5 if low == high else min(max((float(value) - low) / (high - low), 0.0), 1.0)


def _said(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _ends(searched: SearchedParameter) -> dict[str, str]:
    ends = (searched.choices[0], searched.choices[-1]) if searched.choices else (searched.low, searched.high)
    return {"parameter": searched.name, "low": f"{_said(ends[0]):.18}", "high": f"{_said(ends[1]):.18}"}
