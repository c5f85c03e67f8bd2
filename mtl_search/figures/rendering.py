"""Rendering: a figure -> an interactive page that works offline, a PNG, an SVG; and what any page of figures needs."""

import json
import textwrap
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mtl_search.figures.base import PALETTE, Figure, Spec

HERE = Path(__file__).parent
WIDTH = 760
"""Of a picture, in pixels; it is drawn at twice that."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data: blob:"
"""What a page of figures may load: nothing. Vega compiles its expressions, hence eval."""
_LARGE = 400_000
"""A figure of so many characters is drawn at its plain size: it takes seconds as it is."""
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def colours(dark: bool) -> Spec:
    """Vega-Lite's ``config`` for a light or a dark page; the page itself shows through."""
    ink, soft, grid = ("#e3e9ef", "#a9b5c0", "#2c353f") if dark else ("#1c2733", "#52606d", "#e6eaee")
    return {
        "background": None,
        "font": _FONT,
        "view": {"stroke": None},
        "range": {"category": list(PALETTE)},
        "axis": {
            "labelColor": soft,
            "titleColor": ink,
            "gridColor": grid,
            "domainColor": soft,
            "tickColor": soft,
            "labelFontSize": 11,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
        },
        "legend": {"orient": "top", "labelColor": soft, "titleColor": ink, "titleFontWeight": "normal"},
        "title": {"color": ink, "subtitleColor": soft, "anchor": "start", "fontSize": 16, "subtitleFontSize": 12},
        "text": {"color": soft},
        "concat": {"spacing": 24},
    }


def drawing(specs: Mapping[str, Spec]) -> Markup:
    """The scripts that draw figures into a page, libraries and all.

    Args:
        specs: By the name that elements have in ``data-figure``.
    """
    parts = {"light": colours(False), "dark": colours(True), **{k: {"$schema": _SCHEMA, **v} for k, v in specs.items()}}
    data = "\n".join(
        f'<script type="application/json" id="{name}">{_inline(part)}</script>' for name, part in parts.items()
    )
    script = (HERE / "drawing.js").read_text(encoding="utf-8")
    return Markup(f'{data}\n<script type="module">{_libraries()}\n{script}</script>')


def to_html(figure: Figure) -> str:
    """A page with one figure.

    Args:
        figure: With something to show.
    """
    return page(HERE / "page.html", figure=figure)


def to_png(figure: Figure) -> bytes:
    """A picture on white.

    Args:
        figure: With something to show.
    """
    import vl_convert

    whole = _whole(figure)
    scale = 1 if len(json.dumps(whole)) > _LARGE else 2
    return bytes(vl_convert.vegalite_to_png(whole, scale=scale, allowed_base_urls=[]))


def to_svg(figure: Figure) -> str:
    """A drawing on white.

    Args:
        figure: With something to show.
    """
    import vl_convert

    return str(vl_convert.vegalite_to_svg(_whole(figure), allowed_base_urls=[]))


def page(template: Path, **values: Any) -> str:
    """A template filled in; every value is escaped.

    Args:
        template: Jinja's; beside the values it has ``drawing`` and ``policy``.
        values: What it names.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(template.parent)
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return made.get_template(template.name).render(drawing=drawing, policy=POLICY, **values)


def _whole(figure: Figure) -> Spec:
    """The specification of a picture: with title, width and colours."""
    assert figure.spec is not None
    title = {"text": figure.title, "subtitle": textwrap.wrap(figure.sentence, 110), "offset": 14}
    config = colours(False) | {"background": "white", "padding": 16, "axisY": {"labelLimit": 220}}
    spec = {"$schema": _SCHEMA, **figure.spec, "title": title, "config": config}
    if "concat" not in spec:
        return spec | {"width": WIDTH, "autosize": {"type": "fit-x", "contains": "padding"}}
    own = WIDTH / 2 - 105
    return spec | {"columns": 2, "concat": [{**view, "width": own} for view in spec["concat"]]}


def _inline(value: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _libraries() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # with a snippet it is bundled anew, for seconds
    return bundle.replace("</script", "<\\/script")
