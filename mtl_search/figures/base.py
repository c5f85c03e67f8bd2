"""Figure: a title, a sentence that says what is shown, and a Vega-Lite specification; and the parts these are made of.

Names of tasks and parameters are data: they stand in values alone, never in a field's name or an expression.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]

BLUE, ORANGE, GREEN, RED = "#3a8fd0", "#e08a00", "#159a72", "#d8572a"
PALETTE = (BLUE, ORANGE, GREEN, "#b866a0", "#7a8b00", "#5bb4e5", RED, "#8a8a8a")
"""Colours after Okabe and Ito, as bright as both a white and a dark page take."""
GREY = "#8a8a8a"
MANY = len(PALETTE)
"""More tasks than that are no longer told apart by colour."""
RAMP = "viridis"
DIVERGING = "blueorange"


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        title: A few words.
        sentence: What it shows.
        spec: Vega-Lite without title, width and colours of the page: one view, or a ``concat`` of views. None where
            there is nothing to show.
        reason: Why there is nothing to show.
    """

    title: str
    sentence: str
    spec: Spec | None = None
    reason: str = ""


def view(layers: Sequence[Spec], height: int | Mapping[str, Any] = 280) -> Spec:
    """One view of several layers, each with data of its own."""
    return {"height": height, "layer": list(layers)}


def layer(values: Rows, mark: str | Mapping[str, Any], **encoding: Any) -> Spec:
    """One layer: its data, its mark, its encoding."""
    kind = {"type": mark} if isinstance(mark, str) else dict(mark)
    return {"data": {"values": [_plain(row) for row in values]}, "mark": kind, "encoding": encoding}


def number(field: str, title: str | None = None, **more: Any) -> Spec:
    """An encoding of a number; its scale need not hold zero."""
    scale = {"zero": False, **more.pop("scale", {})}
    if scale.get("type") == "log":
        scale = {"nice": False, "padding": 14, **scale}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, **more}


def word(field: str, title: str | None = None, **more: Any) -> Spec:
    """An encoding of a name; rows keep the order of the data."""
    return {"field": field, "type": "nominal", "title": title, "sort": None, **more}


def tooltip(*fields: tuple[str, str]) -> list[Spec]:
    """What a pointer shows: fields with their titles; numbers in four digits."""
    return [{"field": field, "title": title} for field, title in fields]


def coloured(field: str, domain: Sequence[str], colours: Sequence[str] = PALETTE, title: str | None = None) -> Spec:
    """A colour for each of a few names."""
    chosen = [colours[place % len(colours)] for place in range(len(domain))]
    return word(field, title, scale={"domain": list(domain), "range": chosen})


def line_at(value: float, axis: str, encoding: Spec) -> Spec:
    """A dashed line across the view.

    Args:
        value: Where.
        axis: ``x`` or ``y``.
        encoding: That other layers have there, so that the axis stays one.
    """
    mark = {"type": "rule", "strokeDash": [4, 4], "color": GREY}
    return layer([{encoding["field"]: value}], mark, **{axis: encoding})


def rows_high(count: int) -> dict[str, int]:
    """Height of a view with a row for each of so many names."""
    return {"step": 24 if count <= 30 else 14}


def label(value: float | None, unit: str = "") -> str:
    """A number in four digits, as people write it."""
    return "–" if value is None else f"{value:.4g}{unit}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names in a sentence, cut where they are many."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without what JSON cannot say."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
