"""Parity: every exported file, loaded as another program loads it, predicts what the trained model predicts.

Stands between writing the files and handing them over; what differs too much is never handed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mtl_search.export.batches import check_batches
from mtl_search.export.champion import Champion, Columns
from mtl_search.export.failure import ExportError, explain_failure
from mtl_search.export.programs import Program

TOLERANCE = 1e-4
"""Largest absolute difference of a probability; for a regression, in units of its training targets' spread."""

Answer = Callable[[Columns], Sequence[np.ndarray]]
Differences = dict[str, dict[str, float]]


def tolerances(champion: Champion) -> dict[str, float]:
    """By task the largest difference allowed, in the unit of its predictions."""
    return {task.name: TOLERANCE * task.scale for task in champion.tasks}


def on_encoded(program: Program, champion: Champion) -> Answer:
    """A program on encoded rows as one on raw rows."""
    return lambda columns: program(champion.encode(columns))


def compare(champion: Champion, files: Mapping[str, Answer]) -> tuple[Differences, int]:
    """Largest absolute difference to the trained model, by file and task, and the number of rows compared.

    Args:
        champion: The trained model.
        files: By file name what its loaded form answers.

    Raises:
        ExportError: A file cannot predict, answers in another shape, or differs by more than the tolerance.
    """
    worst: Differences = {name: {task.name: 0.0 for task in champion.tasks} for name in files}
    rows = 0
    for columns in check_batches(champion):
        wanted = champion.predict(columns)
        rows += len(next(iter(columns.values())))
        for name, answer in files.items():
            with explain_failure(f"{name} cannot predict {len(next(iter(columns.values())))} rows"):
                got = answer(columns)
            for task, values in zip(wanted, got, strict=True):
                worst[name][task] = max(worst[name][task], _difference(name, task, wanted[task], values))
    allowed = tolerances(champion)
    wrong = [
        f"{name}: task {task} differs by {value:.3g} from the trained model, allowed is {allowed[task]:.3g}"
        for name, tasks in worst.items()
        for task, value in tasks.items()
        if value > allowed[task]
    ]
    if wrong:
        raise ExportError("\n".join(wrong))
    return worst, rows


def _difference(name: str, task: str, wanted: np.ndarray, got: np.ndarray) -> float:
    if wanted.shape != got.shape:
        raise ExportError(f"{name}: task {task} answers in the shape {got.shape}, the trained model in {wanted.shape}")
    apart = np.abs(wanted.astype(np.float64) - got.astype(np.float64))
    apart[np.isnan(wanted) & np.isnan(got)] = 0.0
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))
