"""Tasks learned from training rows, and targets in the form that losses take.

Stands after the cut into splits: labels to codes, numbers to standard units.
"""

from __future__ import annotations

import numpy as np

from mtl_search.config import TaskConfig
from mtl_search.data.sources.base import shown
from mtl_search.data.targets import RawTarget, is_class, meant_label
from mtl_search.data.task import DEFAULT_METRICS, LOSSES, Task
from mtl_search.errors import NOTHING, Problem
from mtl_search.recipe import Component


def fit_task(name: str, config: TaskConfig, dataset: str, train: RawTarget, problems: list[Problem]) -> Task | None:
    """What training rows say about a task: its labels, or its center and scale; None if it cannot be learned."""
    if not train.mask.any():
        return None  # reported by `missing_labels`
    present = train.values[train.mask]
    labels: tuple[str, ...] | None = ()
    center, scale = 0.0, 1.0
    if is_class(config):
        labels = _fit_labels(name, config, present, problems)
    elif len(np.unique(present)) < 2 or not present.std() > 0:
        rule = "must hold at least 2 different values in the training rows"
        problems.append(Problem(f"tasks.{name}.target", rule, float(present[0])))
        labels = None
    elif config.kind == "multilabel":
        labels = tuple(config.target)
        if train.values.shape[1] != len(labels):  # one column of arrays
            labels = tuple(f"{config.target[0]}:{index}" for index in range(train.values.shape[1]))
    else:
        center, scale = float(present.mean()), float(present.std())
    if labels is None:
        return None
    target = config.target[0] if len(config.target) == 1 else tuple(config.target)
    loss = config.loss or LOSSES[config.kind][0]
    metric = config.metric or Component(DEFAULT_METRICS[config.kind])
    return Task(name, config.kind, dataset, labels, center, scale, loss, metric, target)


def _fit_labels(name: str, config: TaskConfig, present: np.ndarray, problems: list[Problem]) -> tuple[str, ...] | None:
    labels = _sorted_labels(present)
    positive = None if config.positive is None else meant_label(config.positive, labels)
    if config.positive is not None and positive is None:
        rule = "must be a label of the training rows"
        problems.append(Problem(f"tasks.{name}.positive", rule, config.positive, shown(labels)))
        return None
    if len(labels) < 2 or (config.kind == "binary" and len(labels) > 2):
        count = "exactly 2" if config.kind == "binary" else "at least 2"
        hint = " (state `positive` to tell one label from all others)" if len(labels) > 2 else ""
        rule = f"must hold {count} labels in the training rows{hint}"
        problems.append(Problem(f"tasks.{name}.target", rule, list(shown(labels))))
        return None
    return (labels[1], labels[0]) if positive == labels[0] else labels


def encode_target(
    task: Task, raw: RawTarget, split: str, problems: list[Problem], *, known: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Targets as losses take them, and their mask.

    Args:
        task: The task.
        raw: Its labels in one split.
        split: That split's name.
        problems: Grows by what is wrong.
        known: Whether the task is a trained model's, and was not fitted on these data.

    Returns:
        Classification: codes (n,) int64. Binary: 0 and 1 (n,) float32. Regression: (values - center) / scale, (n,)
        float32. Multilabel: 0 and 1 (n, L) float32. All 0 where the mask, bool of the same shape, is False.
    """
    if task.kind not in ("classification", "binary"):
        values = (raw.values - task.center) / task.scale
        return np.where(raw.mask, values, 0).astype(np.float32), raw.mask
    codes = {label: code for code, label in enumerate(task.labels)}
    unseen = set(raw.values[raw.mask]) - set(codes)
    if unseen:
        owner = "the model's task does not have" if known else "no training row has"
        rule = f"must not hold labels in {split} that {owner}"
        problems.append(Problem(f"tasks.{task.name}.target", rule, list(shown(sorted(unseen))), shown(task.labels)))
    values = np.array([codes.get(label, 0) for label in raw.values.tolist()], dtype=np.int64)
    return values if task.kind == "classification" else values.astype(np.float32), raw.mask


def _sorted_labels(present: np.ndarray) -> tuple[str, ...]:
    labels = sorted(set(present.tolist()))
    try:
        return tuple(sorted(labels, key=float))
    except ValueError:
        return tuple(labels)


def missing_labels(task: str, raw: RawTarget, split: str) -> list[Problem]:
    """A split in which a task has no label at all can neither be trained on nor scored."""
    empty = [] if raw.mask.any() else [Problem(f"tasks.{task}.target", f"must have labels in {split}", NOTHING)]
    if not empty and raw.mask.ndim == 2 and split == "train" and not raw.mask.any(axis=0).all():
        column = int((~raw.mask.any(axis=0)).argmax())
        empty = [Problem(f"tasks.{task}.target", f"must have labels in {split} for every column, none in", column)]
    return empty
