"""Heat map: task affinity as a picture, for the parent run's artifacts."""

from collections.abc import Mapping, Sequence
from io import StringIO

import numpy as np

_MOST_NUMBERS = 12
"""With more tasks, numbers in the cells are too small to read."""


def heat_map(kind: str, affinity: Mapping[str, Mapping[str, float]], groups: Sequence[Sequence[str]]) -> str:
    """An SVG of the tasks' affinity, tasks of a group beside each other.

    Args:
        kind: What was measured.
        affinity: Of each task (a row) to every other (a column).
        groups: The proposed groups.
    """
    from matplotlib.figure import Figure  # takes a second to import, and few studies draw

    tasks = [task for group in groups for task in group]
    values = np.array([[affinity.get(a, {}).get(b, np.nan) for b in tasks] for a in tasks])
    largest = max(float(np.nanmax(np.abs(values), initial=0.0)), 1e-12)
    side = max(3.5, 0.45 * len(tasks) + 2)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, cmap="RdBu", vmin=-largest, vmax=largest)
    axes.set_xticks(range(len(tasks)), tasks, rotation=90)
    axes.set_yticks(range(len(tasks)), tasks)
    axes.set_title(f"task affinity ({kind.replace('_', ' ')}); lines part the groups")
    for edge in np.cumsum([len(group) for group in groups])[:-1]:
        axes.axhline(edge - 0.5, color="black")
        axes.axvline(edge - 0.5, color="black")
    if len(tasks) <= _MOST_NUMBERS:
        for row, column in np.argwhere(np.isfinite(values)):
            value = values[row, column]
            color = "white" if abs(value) > 0.6 * largest else "black"
            axes.text(column, row, f"{value:.2g}", ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.8)
    written = StringIO()
    figure.savefig(written, format="svg")
    return written.getvalue()
