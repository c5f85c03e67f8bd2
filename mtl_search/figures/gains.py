"""Gains: each task of the winner against its own single-task model, with intervals where the winner was run again."""

from typing import Any

from mtl_search.figures.base import (
    BLUE,
    GREY,
    RED,
    Figure,
    Spec,
    coloured,
    layer,
    line_at,
    number,
    rows_high,
    tooltip,
    view,
    word,
)
from mtl_search.search.outcome import Outcome
from mtl_search.search.overview import Overview

_VERDICTS = ("not worse", "worse")
_SHAPES = ["circle", "triangle-down"]


def gains(overview: Overview) -> Figure:
    """Draw it.

    Args:
        overview: The study's.
    """
    title = "Gain of each task"
    outcome = overview.outcome
    if outcome is None:
        return Figure(title, "Each task of the winner against its single-task model.", reason="the study has not ended")
    again = any(task.repeated for task in outcome.tasks.values())
    whose = (
        "mean and 95 % interval over fresh runs of the winner" if again else "the winner's own run, which is too good"
    )
    sentence = (
        f"Relative gain (%) of each task over its single-task model on validation: {whose}. Worse: than alone, with "
        "confidence. Hollow: its one reading on test."
    )
    return Figure(title, sentence, _drawn(_rows(outcome), _VERDICTS if outcome.worse else _VERDICTS[:1]))


def _rows(outcome: Outcome) -> list[dict[str, Any]]:
    """A row for each task, the highest gain first."""
    rows: list[dict[str, Any]] = []
    for name, task in outcome.tasks.items():
        found = task.repeated
        rows.append(
            {
                "task": name,
                "gain": task.gain if found is None else found.mean,
                "low": None if found is None else found.low,
                "high": None if found is None else found.high,
                "said": f"{task.gain:+.2f} %" if found is None else f"{found} %",
                "verdict": _VERDICTS[task.worse],
                "test": task.test_gain,
                "told": f"{task.test_gain:+.2f} %",
                "metric": task.metric,
            }
        )
    return sorted(rows, key=lambda row: -row["gain"])


def _drawn(rows: list[dict[str, Any]], verdicts: tuple[str, ...]) -> Spec:
    y, title = word("task"), "gain over the single-task model (%)"
    colour = coloured("verdict", verdicts, (BLUE, RED))
    shape = word("verdict", scale={"domain": list(verdicts), "range": _SHAPES[: len(verdicts)]})
    told = tooltip(
        ("task", "task"), ("metric", "metric"), ("said", "validation"), ("told", "test"), ("verdict", "verdict")
    )
    low, high = number("low", title), {"field": "high"}
    spans = [row for row in rows if row["low"] is not None]
    hollow = {"type": "point", "filled": False, "color": GREY, "size": 45}
    filled = {"type": "point", "filled": True, "size": 90, "opacity": 1}
    layers = [
        line_at(0, "x", number("gain", title)),
        layer(rows, hollow, y=y, x=number("test", title), tooltip=told),
        layer(spans, {"type": "rule", "strokeWidth": 3}, y=y, x=low, x2=high, color=colour, tooltip=told),
        layer(rows, filled, y=y, x=number("gain", title), color=colour, shape=shape, tooltip=told),
    ]
    return view(layers, rows_high(len(rows)))
