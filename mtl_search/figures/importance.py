"""Importance: which searched parameters set the best trials apart, for the objective and for each task."""

from mtl_search.analysis.overview import Overview
from mtl_search.figures.base import BLUE, MANY, Figure, layer, number, rows_high, tooltip, view, word

_MOST_TASKS = 16
_MOST_PARAMETERS = 20
_ENOUGH = 30
"""Fewer trials make shares that another search would not find again."""


def importance(overview: Overview) -> Figure:
    """Draw it.

    Args:
        overview: The study's.
    """
    title = "What mattered"
    sentence = (
        "Share of each searched parameter in what sets the best quarter of the trials apart from the others "
        "(PED-ANOVA), for the objective and for each task; a column sums to 100 %."
    )
    first, *tasks = overview.importances
    if not first.shares:
        return Figure(title, sentence, reason=first.reason)
    goal = overview.judged_by.split(" (")[0]
    if first.trials < _ENOUGH:
        sentence += f" Of {first.trials} trials this is a hint, no more."
    shown = [first, *(each for each in tasks if each.shares)]
    if len(tasks) > _MOST_TASKS:
        shown = [first]
        sentence = sentence.replace(", for the objective and for each task; a column sums to 100 %", "")
    names = list(first.shares)[:_MOST_PARAMETERS]
    rows = [
        {
            "parameter": name,
            "of": goal if each is first else each.of,
            "share": each.shares.get(name, 0.0),
            "said": f"{each.shares.get(name, 0.0):.0%}",
            "light": each.shares.get(name, 0.0) < 0.5 * max(max(e.shares.values()) for e in shown),
        }
        for each in shown
        for name in names
    ]
    told = tooltip(("parameter", "parameter"), ("of", "for"), ("said", "share"))
    parameter = word("parameter")
    if len(shown) == 1:
        bars = layer(
            rows,
            {"type": "bar", "color": BLUE},
            y=parameter,
            x=number("share", "share", axis={"format": "%"}),
            tooltip=told,
        )
        return Figure(title, sentence, view([bars], rows_high(len(names))))
    column = word("of", axis={"orient": "top", "labelAngle": 0 if len(shown) <= MANY // 2 else -90, "labelLimit": 90})
    cells = layer(
        rows,
        "rect",
        y=parameter,
        x=column,
        color=number("share", "share", legend={"format": "%"}, scale={"scheme": "blues", "zero": True}),
        tooltip=told,
    )
    white, black = {"value": "white"}, {"test": "datum.light", "value": "#102a43"}
    texts = layer(rows, {"type": "text", "fontSize": 11}, y=parameter, x=column, text={"field": "said"})
    texts["name"] = "numbers"
    texts["encoding"]["color"] = {"condition": black, **white}
    return Figure(
        title,
        sentence,
        view([cells, texts], rows_high(len(names))),
    )
