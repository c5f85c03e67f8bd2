"""Figures of a study: what its folder holds -> Vega-Lite, as interactive HTML, PNG and SVG.

The HTML report shows them, the tracking logs them. One file and one line each.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from mtl_search.analysis.overview import Overview
from mtl_search.figures.affinity import affinity
from mtl_search.figures.base import Figure
from mtl_search.figures.cost import cost
from mtl_search.figures.gains import gains
from mtl_search.figures.history import history
from mtl_search.figures.hypervolume import hypervolume
from mtl_search.figures.importance import importance
from mtl_search.figures.parallel import parallel
from mtl_search.figures.pareto import pareto
from mtl_search.figures.partial_dependence import partial_dependence
from mtl_search.figures.path import path
from mtl_search.figures.rendering import to_html, to_png, to_svg
from mtl_search.figures.weights import weights
from mtl_search.study_store.folder import StudyFolder

__all__ = ["FIGURES", "Figure", "draw_figures", "figures_of", "to_html", "to_png", "to_svg", "write_figures"]

FIGURES: Mapping[str, Callable[[Overview], Figure]] = {
    "gains": gains,
    "history": history,
    "pareto": pareto,
    "importance": importance,
    "partial_dependence": partial_dependence,
    "parallel": parallel,
    "path": path,
    "weights": weights,
    "affinity": affinity,
    "cost": cost,
    "hypervolume": hypervolume,
}
"""Figure by its name, in the order in which a reader wants them."""


def figures_of(folder: StudyFolder) -> dict[str, Figure]:
    """Every figure of a study, by name; one without anything to show has a reason in place of a specification.

    Args:
        folder: The study's.

    Raises:
        StudyError: There is no such study.
    """
    return draw_figures(Overview(folder))


def draw_figures(overview: Overview) -> dict[str, Figure]:
    """Every figure of a study that has been read, see ``figures_of``."""
    return {name: draw(overview) for name, draw in FIGURES.items()}


def write_figures(folder: StudyFolder, to: Path) -> list[Path]:
    """Write every figure that has something to show as ``NAME.html`` (interactive, offline) and ``NAME.png``.

    Args:
        folder: The study's.
        to: Folder to write; made where it is missing.

    Returns:
        What was written.

    Raises:
        StudyError: There is no such study.
    """
    to.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures_of(folder).items():
        if figure.spec is None:
            continue
        page, picture = to / f"{name}.html", to / f"{name}.png"
        page.write_text(to_html(figure), encoding="utf-8")
        picture.write_bytes(to_png(figure))
        written += [page, picture]
    return written
