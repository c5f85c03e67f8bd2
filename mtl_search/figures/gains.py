"""Gains: each task of the winner against its own single-task model, with intervals where the winner was run again."""

from typing import Any

from mtl_search.analysis.overview import Overview
from mtl_search.figures.base import (
    BLUE,
    GREY,
    RED,
    Figure,
    coloured,
    layer,
    line_at,
    number,
    rows_high,
    tooltip,
    view,
    word,
)
from mtl_search.results.outcome import TaskOutcome

_VERDICTS = ("not worse", "worse")


def gains(overview: Overview) -> Figure:
    """Draw it.

    Args:
        overview: The study's.
    """
    title = "Gain of each task"
    outcome = overview.outcome
    if outcome is None:
        return Figure(title, "Each task of the winner against its single-task model.", reason="the study has not ended")
    tasks = sorted(
        outcome.tasks.items(), key=lambda item: -(item[1].repeated.mean if item[1].repeated else item[1].gain)
    )
    again = any(task.repeated for _, task in tasks)
    sentence = (
        "Relative gain (%) of each task over its single-task model on validation: "
        + (
            "mean and 95 % interval over fresh runs of the winner"
            if again
            else "the winner's own run, which is too good"
        )
        + ". Worse: than alone, with confidence. Hollow: its one reading on test."
    )
    rows = [_row(name, task) for name, task in tasks]
    y = word("task")
    x = "gain over the single-task model (%)"
    verdicts = _VERDICTS if outcome.worse else _VERDICTS[:1]
    colour = coloured("verdict", verdicts, (BLUE, RED))
    told = tooltip(
        ("task", "task"), ("metric", "metric"), ("said", "validation"), ("told", "test"), ("verdict", "verdict")
    )
    spans = [row for row in rows if row["low"] is not None]
    tested = [row for row in rows if row["test"] is not None]
    layers = [
        line_at(0, "x", number("gain", x)),
        layer(
            tested,
            {"type": "point", "filled": False, "color": GREY, "size": 45},
            y=y,
            x=number("test", x),
            tooltip=told,
        ),
        layer(
            spans,
            {"type": "rule", "strokeWidth": 3},
            y=y,
            x=number("low", x),
            x2={"field": "high"},
            color=colour,
            tooltip=told,
        ),
        layer(
            rows,
            {"type": "point", "filled": True, "size": 90, "opacity": 1},
            y=y,
            x=number("gain", x),
            color=colour,
            shape=word(
                "verdict", scale={"domain": list(verdicts), "range": ["circle", "triangle-down"][: len(verdicts)]}
            ),
            tooltip=told,
        ),
    ]
    return Figure(title, sentence, view(layers, rows_high(len(rows))))


def _row(name: str, task: TaskOutcome) -> dict[str, Any]:
    found = task.repeated
    return {
        "task": name,
        "gain": task.gain if found is None else found.mean,
        "low": None if found is None else found.low,
        "high": None if found is None else found.high,
        "said": f"{task.gain:+.2f} %" if found is None else f"{found} %",
        "verdict": _VERDICTS[task.worse],
        "test": task.test_gain,
        "told": "not defined" if task.test_gain is None else f"{task.test_gain:+.2f} %",
        "metric": task.metric,
    }
