"""Tasks learned from training rows, and targets in the form that losses take.

Stands after the cut into splits. What is learned and how targets are encoded is the kind's to say.
"""

from __future__ import annotations

import numpy as np

from mtl_search.config import TaskConfig
from mtl_search.data.task import Task
from mtl_search.errors import NOTHING, Problem
from mtl_search.recipe import Component
from mtl_search.task_kinds import TASK_KINDS, RawTarget


def fit_task(name: str, config: TaskConfig, dataset: str, train: RawTarget, problems: list[Problem]) -> Task | None:
    """What training rows say about a task: its labels, or its center and scale; None if it cannot be learned."""
    if not train.mask.any():
        return None  # reported by `missing_labels`
    kind = TASK_KINDS[config.kind]
    fit = kind.fit(f"tasks.{name}", config, train, problems)
    if fit is None:
        return None
    target = config.target[0] if len(config.target) == 1 else tuple(config.target)
    loss = config.loss or next(iter(kind.losses))
    metric = config.metric or Component(kind.default_metric)
    return Task(name, config.kind, dataset, fit.labels, fit.center, fit.scale, loss, metric, target)


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
        Targets as ``TaskKind.encode`` gives them, and where there is a label, bool of the same shape.
    """
    return task.behaviour.encode(task, raw, split, problems, known), raw.mask


def missing_labels(task: str, raw: RawTarget, split: str) -> list[Problem]:
    """A split in which a task has no label at all can neither be trained on nor scored."""
    empty = [] if raw.mask.any() else [Problem(f"tasks.{task}.target", f"must have labels in {split}", NOTHING)]
    if not empty and raw.mask.ndim == 2 and split == "train" and not raw.mask.any(axis=0).all():
        column = int((~raw.mask.any(axis=0)).argmax())
        empty = [Problem(f"tasks.{task}.target", f"must have labels in {split} for every column, none in", column)]
    return empty
