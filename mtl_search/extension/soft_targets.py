"""Soft targets: the rows of all new tasks as one data set, on which the old tasks' targets are the old model's outputs.

So an old task is a task like any other to the training loop: what it learns is what the model said before. On
validation its targets are the old model's own predictions, and its metric is how well the two agree.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mtl_search.data.batching import DeviceSplit
from mtl_search.data.inputs import InputSource
from mtl_search.data.sparse import SparseRows
from mtl_search.data.study_data import Split
from mtl_search.data.task import Task
from mtl_search.extension.base import ExtensionData
from mtl_search.models.modes import evaluating
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Component
from mtl_search.training.evaluation import CHUNK

HOME = "all"
"""Name of the one data set."""


def soft_target_data(
    tasks: Sequence[Task], old: MultiTaskModel, extension_data: ExtensionData, temperature: float
) -> tuple[list[Task], dict[str, DeviceSplit]]:
    """Tasks and splits to train on.

    Args:
        tasks: Those of the grown model.
        old: The model before, on the ground's device.
        extension_data: The new tasks' data.
        temperature: By which old logits are divided.

    Returns:
        The tasks, all on one data set, and that data set's training and validation split.
    """
    known = {task.name for task in old.tasks}
    homed = [_homed(task) if task.name in known else replace(task, dataset=HOME) for task in tasks]
    device, preparation = extension_data.world.device, extension_data.data.preparation
    splits = {}
    for name in ("train", "validation"):
        joined = concatenate_data(extension_data, name)
        bare = DeviceSplit({HOME: joined}, preparation, [], device)
        outputs = raw_outputs(old, bare.inputs[HOME])
        for task in old.tasks:
            raw = outputs[task.name]
            kind = task.behaviour
            targets = kind.soft_targets(raw, temperature) if name == "train" else kind.hard_targets(raw)
            joined.targets[task.name] = targets.cpu().numpy()
            joined.masks[task.name] = np.ones(kind.mask_shape(targets), dtype=bool)
        splits[name] = DeviceSplit({HOME: joined}, preparation, homed, device)
    return homed, splits


def concatenate_data(extension_data: ExtensionData, name: str) -> Split:
    """The rows of every data set that a new task has, one after the other; new tasks' labels where there are any."""
    tasks = [task for task in extension_data.data.tasks if task.name in extension_data.new]
    names = list(dict.fromkeys(task.dataset for task in tasks))
    parts = [extension_data.data.splits[name][dataset] for dataset in names]
    targets: dict[str, np.ndarray] = {}
    masks: dict[str, np.ndarray] = {}
    weights: dict[str, np.ndarray] = {}
    for task in tasks:
        own = extension_data.data.splits[name][task.dataset]
        for kept, source in ((targets, own.targets), (masks, own.masks), (weights, own.weights)):
            if task.name not in source:
                continue
            blank = np.zeros_like(source[task.name][:1])
            kept[task.name] = np.concatenate(
                [
                    source[task.name] if dataset == task.dataset else blank.repeat(part.rows, axis=0)
                    for dataset, part in zip(names, parts, strict=True)
                ]
            )
    encoded = tuple(np.concatenate(columns) for columns in zip(*(part.encoded for part in parts), strict=True))
    texts = [part.text for part in parts if part.text is not None]
    return Split(encoded, targets, masks, _joined_text(texts) if texts else None, weights=weights)


@torch.no_grad()
def raw_outputs(model: MultiTaskModel, inputs: InputSource) -> dict[str, Tensor]:
    """Raw outputs (n, ...) of every task for all rows, in evaluation mode."""
    with evaluating(model):
        parts = [model(inputs[start : start + CHUNK]) for start in range(0, len(inputs), CHUNK)]
    return {task.name: torch.cat([part[task.name] for part in parts]) for task in model.tasks}


def _homed(task: Task) -> Task:
    """An old task as it is learned again: the plain loss of its kind, and agreement for a metric."""
    kind = task.behaviour
    plain = replace(task, loss=next(iter(kind.losses)), loss_params={}, class_weights=())
    return replace(plain, dataset=HOME, metric=Component(kind.agreement))


def _joined_text(parts: Sequence[SparseRows]) -> SparseRows:
    before = np.cumsum([0, *(part.starts[-1] for part in parts)])
    starts = [part.starts[:-1] + first for part, first in zip(parts, before[:-1], strict=True)]
    return SparseRows(
        np.concatenate([*starts, before[-1:]]),
        np.concatenate([part.columns for part in parts]),
        np.concatenate([part.values for part in parts]),
        parts[0].width,
    )
