"""Target columns of every given split, read as the task's kind says, and notes on what a user may not mean.

Stands between the sources and `fitting`, which learns from the training rows what the labels and units are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mtl_search.config.study_config import TaskConfig
from mtl_search.data.datasets import DataSet, find_column
from mtl_search.data.sources.parquet_rows import Rows
from mtl_search.data.task import Task
from mtl_search.errors import NOTHING, Problem, few_of, shown
from mtl_search.input_kinds.values import NUMBER_GAPS, text_of
from mtl_search.recipe import Component
from mtl_search.task_kinds import TASK_KINDS
from mtl_search.task_kinds.base import RawTarget
from mtl_search.task_kinds.numbers import read_numbers, refuse


def read_target(
    name: str, task: TaskConfig, dataset: DataSet, problems: list[Problem], notes: list[str]
) -> dict[str, RawTarget] | None:
    """Reads a task's target from every given split.

    Args:
        name: The task's.
        task: What the study file says of it.
        dataset: The rows.
        problems: Grows by what is wrong.
        notes: Grows by what a user should know.

    Returns:
        Split to target; None if a column cannot be read.
    """
    kind = TASK_KINDS[task.kind]
    before = len(problems)
    raw: dict[str, RawTarget] = {}
    for split, columns in dataset.given.items():
        found = _columns(name, task, dataset.name, split, columns, problems)
        if found is None:
            continue
        try:
            raw[split] = kind.read(found, task)
        except ValueError as error:
            problems.append(Problem(f"tasks.{name}.target", f"{error} (split {split})"))
    if len(problems) > before:
        return None
    notes += _find_doubts(name, task, raw.values())
    raw = kind.merge_labels(raw, task)
    return raw if task.weight is None else _weighted(name, task.weight, dataset, raw, problems)


def _find_doubts(name: str, task: TaskConfig, targets: Collection[RawTarget]) -> Iterator[str]:
    """Notes on what a user may not mean: a mark that no row holds, a label that others write for a gap."""
    mark = text_of(task.missing)
    if mark and mark not in NUMBER_GAPS and not any(target.marked for target in targets):
        yield f"tasks.{name}.missing: no row holds {shown(task.missing)}, so it marks no label as missing"
    if is_labelled(task):
        rows = Counter(label for target in targets for label in target.values[target.mask])
        for word in sorted(NUMBER_GAPS.intersection(rows)):
            yield f"tasks.{name}.target: {word!r} is a label in {rows[word]} rows; `missing: {word}` would make it none"


def _weighted(
    name: str, column: str, dataset: DataSet, targets: dict[str, RawTarget], problems: list[Problem]
) -> dict[str, RawTarget] | None:
    """The targets with the weights of their rows; None if these cannot be read."""
    place, found = f"tasks.{name}.weight", dict(targets)
    before = len(problems)
    for split, target in targets.items():
        given = find_column(dataset.given[split], column)
        if given is None or given.ndim > 1:
            rule = f"must name a column of single values of data set {dataset.name!r} (split {split})"
            problems.append(Problem(place, rule, column, few_of(dataset.given[split])))
            continue
        if len(given) != len(target.mask):
            return None  # unequal rows are reported for the data set
        try:
            found[split] = replace(target, weights=_read_weights(given, target.mask))
        except ValueError as error:
            problems.append(Problem(place, f"{error} (split {split})"))
    return found if len(problems) == before else None


def _read_weights(column: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What each row counts, (n,) float64; 0 where a row has no label."""
    values = read_numbers([column], None)[0][:, 0]
    labelled = mask.reshape(len(mask), -1).any(1)
    with np.errstate(over="ignore"):
        wrong = ~(values >= 0) | np.isinf(values.astype(np.float32))
    refuse(values[:, None], (labelled & wrong)[:, None], "must hold a number of at least 0 in every row with a label")
    return np.where(labelled, values, 0.0)


def is_labelled(task: TaskConfig) -> bool:
    """Whether the target is a label out of a few."""
    return TASK_KINDS[task.kind].labelled


def _columns(
    name: str, task: TaskConfig, dataset: str, split: str, columns: Rows, problems: list[Problem]
) -> list[np.ndarray] | None:
    found = []
    axes = 2 if TASK_KINDS[task.kind].several_targets and len(task.target) == 1 else 1
    for target in task.target:
        column = find_column(columns, target)
        if column is None:
            rule = f"must name a column of data set {dataset!r} (split {split})"
            problems.append(Problem(f"tasks.{name}.target", rule, target, few_of(columns)))
        elif column.ndim > axes:
            hint = f"; '{target}:0' is its first column" if column.ndim == 2 else ""
            rule = f"must be a column of single values{hint}, got the shape {column.shape} (split {split}) of"
            problems.append(Problem(f"tasks.{name}.target", rule, target))
        else:
            found.append(column)
    if len(found) < len(task.target):
        return None
    lengths = {len(column) for column in found}
    return found if len(lengths) == 1 else None  # unequal rows are reported for the data set


def fit_task(name: str, config: TaskConfig, dataset: str, train: RawTarget, problems: list[Problem]) -> Task | None:
    """What training rows say about a task: its labels, or its center and scale; None if it cannot be learned."""
    if not train.mask.any():
        return None  # reported by `missing_labels`
    kind = TASK_KINDS[config.kind]
    fit = kind.fit(f"tasks.{name}", config, train, problems)
    if fit is None:
        return None
    target = config.target[0] if len(config.target) == 1 else tuple(config.target)
    before = len(problems)
    weights = kind.fit_class_weights(f"tasks.{name}", config, train, fit.labels, problems)
    if len(problems) > before:
        return None
    loss = config.loss or Component(next(iter(kind.losses)))
    defaults = kind.losses.describe(loss.name).parameters if loss.name in kind.losses else {}
    params = {key: value for key, value in loss.params.items() if key not in defaults or value != defaults[key][1]}
    metric = config.metric or Component(kind.default_metric)
    scaled = (fit.labels, fit.center, fit.scale)
    return Task(name, config.kind, dataset, *scaled, loss.name, metric, target, params, weights)


class EncodedTarget(NamedTuple):
    """A task's targets in one split.

    Attributes:
        values: As ``TaskKind.encode`` gives them.
        mask: Where there is a label; bool, the same shape.
        weights: What each label counts in the loss, float32 of the same shape, 0 where there is none; None where every
            label counts 1.
    """

    values: np.ndarray
    mask: np.ndarray
    weights: np.ndarray | None = None


def encode_target(
    task: Task, raw: RawTarget, split: str, problems: list[Problem], *, known: bool = False
) -> EncodedTarget:
    """Targets as losses take them, with their mask and weights.

    Args:
        task: The task.
        raw: Its labels in one split.
        split: That split's name.
        problems: Grows by what is wrong.
        known: Whether the task is a trained model's, and was not fitted on these data.
    """
    values = task.behaviour.encode(task, raw, split, problems, known)
    if raw.weights is None and not task.class_weights:
        return EncodedTarget(values, raw.mask)
    weights = task.behaviour.weigh_labels(task, values) if task.class_weights else np.ones(values.shape)
    if raw.weights is not None:
        weights = weights * raw.weights.reshape(-1, *[1] * (values.ndim - 1))
    return EncodedTarget(values, raw.mask, np.where(raw.mask, weights, 0).astype(np.float32))


def missing_labels(task: str, raw: RawTarget, split: str) -> list[Problem]:
    """A split in which no label of a task counts can neither be trained on nor scored."""
    empty = [] if raw.mask.any() else [Problem(f"tasks.{task}.target", f"must have labels in {split}", NOTHING)]
    if not empty and raw.mask.ndim == 2 and split == "train" and not raw.mask.any(axis=0).all():
        column = int((~raw.mask.any(axis=0)).argmax())
        empty = [Problem(f"tasks.{task}.target", f"must have labels in {split} for every column, none in", column)]
    if not empty and raw.weights is not None and not raw.weights.any():
        rule = f"must be above 0 in a row of {split} that has a label"
        empty = [Problem(f"tasks.{task}.weight", rule, 0)]
    return empty
