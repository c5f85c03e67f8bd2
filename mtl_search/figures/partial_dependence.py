"""Partial dependence: what to expect along the parameters that mattered most."""

from typing import Any

from mtl_search.analysis.importance import LEAST, Dependence
from mtl_search.analysis.overview import Overview
from mtl_search.figures.base import BLUE, ORANGE, Figure, Spec, label, layer, number, tooltip, view, word


def partial_dependence(overview: Overview) -> Figure:
    """Draw it, a view for each parameter.

    Args:
        overview: The study's.
    """
    title, what = "Along the parameters that mattered most", overview.judged_by
    sentence = (
        f"Orange: the {what} to expect along one parameter, the others as the trials had them (mean answer of a random "
        "forest, within what was tried). Points: the trials themselves; one that went badly "
        "counts as the lowest shown."
    )
    if not overview.dependences:
        reason = overview.importances[0].reason or f"no parameter was varied by {LEAST} different complete trials"
        return Figure(title, sentence, reason=reason)
    views = [_along(dependence, what) for dependence in overview.dependences]
    return Figure(title, sentence, views[0] if len(views) == 1 else {"concat": views})


def _along(found: Dependence, what: str) -> Spec:
    def value(raw: Any) -> Any:
        return raw if found.numeric else str(raw)

    curve = [
        {"x": value(at), "y": expected, "said": label(expected)}
        for at, expected in zip(found.values, found.expected, strict=True)
    ]
    trials = [{"x": value(at), "y": score, "said": label(score)} for at, score in found.points]
    if found.numeric:
        scale: dict[str, Any] = {"type": "log"} if found.log else {}
        x = number("x", found.parameter, scale=scale, axis={"format": "~g", "labelOverlap": True, "tickCount": 5})
        mark: dict[str, Any] = {"type": "line", "color": ORANGE, "strokeWidth": 3}
    else:
        x = word("x", found.parameter, axis={"labelAngle": 0, "labelLimit": 90})
        mark = {"type": "tick", "color": ORANGE, "thickness": 4, "width": 36}
    y = number("y", what)
    told = tooltip(("x", found.parameter), ("said", what))
    points = layer(trials, {"type": "point", "filled": True, "opacity": 0.55, "color": BLUE}, x=x, y=y, tooltip=told)
    return view([points, layer(curve, mark, x=x, y=y, tooltip=told)], 200)
