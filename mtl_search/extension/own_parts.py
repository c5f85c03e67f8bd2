"""Own parts: head and own blocks of one new task, trained on what the blocks below them give.

Those blocks stay as they are and run in evaluation mode, so each row passes through them once, before the first epoch.
"""

import copy
from typing import final

import torch
from torch import Tensor, nn

from mtl_search.config.study_config import ActivationsConfig
from mtl_search.data.batching import DeviceSplit
from mtl_search.data.inputs import HeldInputs, InputSource
from mtl_search.extension.base import ExtensionData
from mtl_search.models.backbones.base import Backbone
from mtl_search.models.branching import TaskBranch
from mtl_search.models.modes import evaluating
from mtl_search.models.multitask import MultiTaskModel, head_key
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.recipe import Component, Schedule, seed_from
from mtl_search.results.objective import Objective
from mtl_search.training.activations import Activations
from mtl_search.training.evaluation import CHUNK
from mtl_search.training.loop import Loop
from mtl_search.training.metrics import metric_for, task_goals
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS


def train_own_parts(
    model: MultiTaskModel, growth: TaskBranch, extension_data: ExtensionData, schedule: Schedule
) -> int:
    """Train what one new task has alone, in place; nothing else of the model changes.

    Args:
        model: The grown model, on the ground's device.
        growth: The task, and where its own part begins.
        extension_data: Its data.
        schedule: Epochs, optimiser and so on.

    Returns:
        The epoch that is best on validation, whose parameters the model has now.

    Raises:
        TrialError: Training diverged.
    """
    world, data = extension_data.world, extension_data.data
    task = next(task for task in data.tasks if task.name == growth.task)
    splits = {}
    for name in ("train", "validation"):
        rows = {task.dataset: data.splits[name][task.dataset]}
        splits[name] = DeviceSplit(rows, data.preparation, [task], world.device)
        splits[name].inputs[task.dataset] = _below(model, growth, splits[name].inputs[task.dataset])
    upper = _Upper([_block(model, growth, number) for number in range(growth.depth, model.plan.blocks)])
    shape = tuple(splits["train"].inputs[task.dataset][:1].single.shape[1:])
    blocks = max(1, model.plan.blocks - growth.depth)
    part = MultiTaskModel(upper, shape, [task], SharingPlan.separate([task.name], blocks), [task.dataset])
    part.initialise(extension_data.seed)
    loop = Loop(
        part.to(world.device),
        splits,
        schedule,
        build(WEIGHTINGS, Component(next(iter(WEIGHTINGS)))),
        Objective({task.name: task_goals(data)[task.name]}, task.name),
        {task.name: metric_for(task).to(world.device)},
        seed_from(extension_data.seed, "extend", task.name),
        world,
        extension_data.folder / task.name,
        {},
        Activations(ActivationsConfig(), world.device),
    )
    progress = loop.run(extension_data.controls(task.name))
    part.load_state_dict(progress.best_state)
    for number in range(growth.depth, model.plan.blocks):
        trained = part.blocks[number - growth.depth]
        assert isinstance(trained, nn.ModuleList)
        _block(model, growth, number).load_state_dict(trained[0].state_dict())
    model.heads[head_key(task.name)].load_state_dict(part.heads[head_key(task.name)].state_dict())
    return progress.best_epoch


def _block(model: MultiTaskModel, growth: TaskBranch, number: int) -> nn.Module:
    """The copy of a block that the task's rows pass through."""
    copies = model.blocks[number]
    assert isinstance(copies, nn.ModuleList)
    return copies[model.plan.group_of(number, growth.task)]


@torch.no_grad()
def _below(model: MultiTaskModel, growth: TaskBranch, inputs: InputSource) -> InputSource:
    """What the task's own part takes, for all rows: one tensor (n, ...) on the device they are on."""
    if not growth.depth:
        return inputs

    def run(x: Tensor) -> Tensor:
        if growth.depth == model.plan.blocks:  # past the wiring, whatever that is
            taken: Tensor = model.coupling([list(block.children()) for block in model.blocks], x, (), None)[growth.like]
            return taken
        for number in range(growth.depth):
            x = _block(model, growth, number)(x)
        return x

    with evaluating(model):
        parts = [run(inputs[start : start + CHUNK].single) for start in range(0, len(inputs), CHUNK)]
    return HeldInputs({"hidden": torch.cat(parts)})


@final
class _Upper(Backbone):
    """A task's own blocks as a backbone; without any, the features as they come."""

    def __init__(self, own: list[nn.Module]) -> None:
        self._own = own

    def _blocks(self, input_shape: tuple[int, ...]) -> list[nn.Module]:
        return [copy.deepcopy(block).cpu() for block in self._own] or [nn.Identity()]
