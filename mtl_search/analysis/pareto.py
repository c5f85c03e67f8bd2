"""Pareto: every model that a study left on disk, judged task by task, and which of them no other beats in all tasks.

A point is a trial's best epoch, whether the trial ran to its end or was stopped early and left its best model so far.
Figures, reports and ``export --prefer`` read it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtl_search.errors import NOTHING, ConfigError, Problem
from mtl_search.results.objective import Goal, Objective
from mtl_search.results.trial_record import TrialRecord
from mtl_search.storage.files import RESULT_FILE, STOPPED_FILE, STOPPED_MODEL_FILE
from mtl_search.storage.paths import StoragePath
from mtl_search.storage.reports import StageResult
from mtl_search.storage.stage_results import read_result, results_in
from mtl_search.study_store.folder import StudyFolder

MODEL_FILE = "model.safetensors"
EXACT = 4
"""Up to so many tasks a hypervolume is exact; beyond, each point's share is sampled."""
SAMPLES = 4096
PREFER = "--prefer"


@dataclass(frozen=True)
class Point:
    """A model on disk and what it came to.

    Attributes:
        trial: Number of the trial.
        epoch: Of joint training; 0 is right after fusion.
        metrics: Main validation metric by task.
        gains: Relative gain over the single-task model by task, in percent; positive is better.
        folder: Where its model lies.
        stopped: Whether its trial was stopped early.
    """

    trial: int
    epoch: int
    metrics: Mapping[str, float]
    gains: Mapping[str, float]
    folder: StoragePath
    stopped: bool = False

    @property
    def model(self) -> StoragePath:
        """The file with its parameters."""
        return self.folder / (STOPPED_MODEL_FILE if self.stopped else MODEL_FILE)

    @property
    def result(self) -> StageResult:
        """What its joint stage came to."""
        return read_result(self.folder / (STOPPED_FILE if self.stopped else RESULT_FILE))


def points_of(folder: StudyFolder, records: Iterable[TrialRecord], objective: Objective) -> list[Point]:
    """Every point of a study, by trial; trials that took over another's end are left out.

    Args:
        folder: The study's.
        records: Its trials.
        objective: Knows the baselines.
    """
    points = [
        Point(record.number, 0, {}, {}, folder.trials / record.job, record.state == "pruned")
        for record in records
        if record.job is not None and record.duplicate_of is None
    ]
    files = [(point.folder, STOPPED_FILE if point.stopped else RESULT_FILE, point.model.name) for point in points]
    found = []
    for point, result in zip(points, results_in(files), strict=True):
        if result is not None:
            metrics = {task: result.metrics[task] for task in objective.goals}
            gains = objective.gains(metrics)
            found.append(Point(point.trial, result.best_epoch, metrics, gains, point.folder, point.stopped))
    return found


def pareto_front(points: Sequence[Point], goals: Mapping[str, Goal]) -> list[Point]:
    """The points that no other beats: none is as good in every task and better in one; of equal ones the first.

    Args:
        points: In any order.
        goals: Direction by task.
    """
    values = np.array([[goal.signed(point.metrics[task]) for task, goal in goals.items()] for point in points])
    kept = []
    for number, own in enumerate(values):
        beaten = (values >= own).all(axis=1) & (values > own).any(axis=1)
        if not beaten.any() and not (values[:number] == own).all(axis=1).any():
            kept.append(points[number])
    return kept


def reference_of(best: Sequence[Point]) -> dict[str, float]:
    """The gains that a hypervolume is measured from.

    For each task the lowest gain on the front, or 0 where all are above the single-task model; less a tenth of the way
    from there to the highest (at least one percent), so that the ends of the front count.

    Args:
        best: The front at the study's end.
    """
    found = {}
    for task in best[0].gains if best else ():
        gains = [point.gains[task] for point in best]
        low = min(0.0, *gains)
        found[task] = low - max(1.0, 0.1 * (max(gains) - low))
    return found


def hypervolume(points: Sequence[Point], reference: Mapping[str, float]) -> list[float]:
    """Volume of gains that the first 1, 2, ... points beat, as a share of the box from the reference to the best gains.

    Exact up to ``EXACT`` tasks. Beyond, what a point adds is its own box times the part of ``SAMPLES`` draws in it that
    no earlier point beats: it never falls, and its error is relative to what is added, however many tasks there are.

    Paper: While, Bradstreet & Barone, A Fast Way of Calculating Exact Hypervolumes, IEEE TEVC 2012,
    https://doi.org/10.1109/TEVC.2010.2077298

    Args:
        points: In the order in which they were found.
        reference: Gain by task, see ``reference_of``.

    Returns:
        One number in [0, 1] for every point, never falling.
    """
    if not points:
        return []
    low = np.array(list(reference.values()))
    sides = np.array([[point.gains[task] for task in reference] for point in points]) - low
    whole = sides.max(axis=0)
    sides = np.clip(sides / np.where(whole > 0, whole, 1.0), 0.0, 1.0)
    draw, total, known, found = np.random.default_rng(0), 0.0, np.empty((0, len(low))), []
    for own in sides:
        if own.all() and not (known >= own).all(axis=1).any():
            inside = np.minimum(known, own)
            part = _exact(inside) / own.prod() if len(low) <= EXACT else _sampled(inside, own, draw)
            total += float(own.prod() * (1.0 - part))
            known = np.vstack([known[~(known <= own).all(axis=1)], own])
        found.append(min(total, 1.0))
    return found


def _exact(boxes: np.ndarray) -> float:
    """Volume of a union of boxes from the origin to these corners, (n, K)."""
    if boxes.shape[1] == 1:
        return float(boxes.max(initial=0.0))
    boxes = boxes[np.argsort(-boxes[:, 0])]
    total, known = 0.0, np.empty((0, boxes.shape[1]))
    for own in boxes:
        if own.all() and not (known >= own).all(axis=1).any():
            total += float(own.prod()) - _exact(np.minimum(known, own))
            known = np.vstack([known[~(known <= own).all(axis=1)], own])
    return total


def _sampled(boxes: np.ndarray, own: np.ndarray, draw: np.random.Generator) -> float:
    """Share of the box up to ``own`` that the boxes cover."""
    drawn = draw.random((SAMPLES, len(own))) * own
    covered = np.zeros(SAMPLES, dtype=bool)
    for box in boxes:
        covered |= (drawn <= box).all(axis=1)
    return float(covered.mean())


def pick_preferred(points: Sequence[Point], weights: Mapping[str, float]) -> Point:
    """The point with the highest weighted mean of gains; of equal ones the first.

    With equal weights it is the point with the highest improvement.

    Args:
        points: At least one.
        weights: By task; a task that is not named counts 1.

    Raises:
        ConfigError: A weight is negative or not finite, names no task, or all are 0.
    """
    tasks = tuple(points[0].gains)
    problems = [
        Problem(f"{PREFER}.{task}", "is not a task", NOTHING, tasks) for task in weights if task not in tasks
    ] + [
        Problem(f"{PREFER}.{task}", "must be a finite number, 0 or above", value)
        for task, value in weights.items()
        if not (math.isfinite(value) and value >= 0)
    ]
    every = {task: weights.get(task, 1.0) for task in tasks}
    if not problems and not any(every.values()):
        problems.append(Problem(PREFER, "must give some task a weight above 0", dict(weights)))
    if problems:
        raise ConfigError(problems)
    return max(points, key=lambda point: sum(weight * point.gains[task] for task, weight in every.items()))


def parse_preference(text: str) -> dict[str, float]:
    """Weights by task, written ``digit=2,garment=1``.

    Raises:
        ConfigError: The text has another form.
    """
    problems, weights = [], dict[str, float]()
    for part in text.split(","):
        task, equals, value = (piece.strip() for piece in part.rpartition("="))
        if not (task and equals):
            problems.append(Problem(PREFER, "must be written TASK=WEIGHT,TASK=WEIGHT,...", part.strip() or text))
        elif task in weights:
            problems.append(Problem(f"{PREFER}.{task}", "must be given once", value))
        else:
            try:
                weights[task] = float(value)
            except ValueError:
                problems.append(Problem(f"{PREFER}.{task}", "must be a number", value))
    if problems:
        raise ConfigError(problems)
    return weights
