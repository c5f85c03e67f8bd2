"""Weights: how much each task's loss counted in the winner's joint training, epoch by epoch."""

from mtl_search.analysis.overview import Overview
from mtl_search.figures.base import MANY, RAMP, Figure, coloured, label, layer, number, rows_high, tooltip, view, word


def weights(overview: Overview) -> Figure:
    """Draw it: a line for each task, or a row where they are many.

    Args:
        overview: The study's.
    """
    title = "Weights of the task losses"
    sentence = "The weight that each task's loss had in the winner's joint training, mean over the steps of an epoch."
    if overview.outcome is None:
        return Figure(title, sentence, reason="the study has not ended, so there is no winner")
    history = [report for report in overview.winner_history if report.weights]
    rows = [
        {"epoch": report.epoch, "task": task, "weight": weight, "said": label(weight)}
        for report in history
        for task, weight in report.weights.items()
    ]
    if not rows:
        return Figure(title, sentence, reason="the winner was not trained jointly, or its files are gone")
    tasks = list(history[0].weights)
    told = tooltip(("epoch", "epoch"), ("task", "task"), ("said", "weight"))
    if len(tasks) > MANY:
        epoch = {"field": "epoch", "type": "ordinal", "title": "epoch", "axis": {"labelAngle": 0, "labelOverlap": True}}
        colour = number("weight", "weight", scale={"scheme": RAMP})
        task = word("task")
        return Figure(
            title,
            sentence,
            view([layer(rows, "rect", x=epoch, y=task, color=colour, tooltip=told)], rows_high(len(tasks))),
        )
    lines = layer(
        rows,
        {"type": "line", "point": {"size": 25}},
        x=number("epoch", "epoch", axis={"tickMinStep": 1}),
        y=number("weight", "weight"),
        color=coloured("task", tasks),
        tooltip=told,
    )
    return Figure(title, sentence, view([lines]))
