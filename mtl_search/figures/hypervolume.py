"""Hypervolume: how much of the trade-off between the tasks the trials had covered, trial by trial."""

from mtl_search.analysis.overview import Overview
from mtl_search.figures.base import BLUE, Figure, layer, number, tooltip, view


def hypervolume(overview: Overview) -> Figure:
    """Draw it.

    Args:
        overview: The study's.
    """
    title = "Hypervolume of the front"
    sentence = (
        "How much of the final Pareto front's hypervolume the models up to each trial cover: a line that still rises "
        "says that more trials would find more. Gains count from a little below the front's lowest in each task, "
        "or below the single-task models where these are lower."
    )
    if len(overview.config.tasks) == 1:
        return Figure(title, sentence, reason="with a single task there is nothing to trade")
    found = overview.hypervolumes
    if not found or not found[-1][1]:
        reason = "the study has not ended" if overview.outcome is None else "no model is left on disk"
        return Figure(title, sentence, reason=reason)
    last = found[-1][1]
    rows = [
        {"trial": trial, "share": value / last, "said": f"{value / last:.1%}", "of": f"{value:.3g}"}
        for trial, value in found
    ]
    steps = layer(
        rows,
        {"type": "line", "interpolate": "step-after", "color": BLUE, "point": {"size": 25, "color": BLUE}},
        x=number("trial", "trial", axis={"tickMinStep": 1}),
        y=number("share", "share of the final hypervolume", scale={"domain": [0, 1]}, axis={"format": "%"}),
        tooltip=tooltip(("trial", "trial"), ("said", "share"), ("of", "share of the box")),
    )
    return Figure(title, sentence, view([steps], 220))
