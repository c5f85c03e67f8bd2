"""MultiTaskModel: blocks copied as a sharing plan says, a sharing module that wires the copies, one head per task.

Single-task models are the case of one task. ``fusion.apply`` gives the parameters it starts from, ``training`` trains
it, ``models.deployed`` wraps it for use.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtl_search.data.inputs import Inputs
from mtl_search.data.task import Task
from mtl_search.errors import ConfigError, Problem
from mtl_search.models.alignment_point import Align, AlignmentPoint, alignment_points
from mtl_search.models.backbones.base import Backbone, output_shapes
from mtl_search.models.forward_context import ForwardContext
from mtl_search.models.modes import evaluating
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.models.sharing.sharing_module import ModelLayout, SharingFactory
from mtl_search.models.sharing.tree_sharing import TreeSharing
from mtl_search.recipe import seed_from


class Head(nn.Module):
    """One linear layer from the representation (n, features) to the raw outputs of a task.

    A batch of no rows passes.

    Args:
        features: Width of the representation.
        task: The task; its kind decides the shape of the outputs, () or (L,).
    """

    def __init__(self, features: int, task: Task) -> None:
        super().__init__()
        self.linear = nn.Linear(features, task.outputs)
        self.single = not task.behaviour.output_shape(task)

    def forward(self, features: Tensor) -> Tensor:
        """Raw outputs for features (n, features)."""
        raw: Tensor = self.linear(features)
        return raw.squeeze(1) if self.single else raw

    def initialise(self, seed: int) -> None:
        """Draw new parameters that depend on the seed alone; the global random state stays as it was."""
        generator = torch.Generator().manual_seed(seed)
        bound = self.linear.in_features**-0.5
        with torch.no_grad():
            for parameter in self.linear.parameters():  # the distribution of torch's own nn.Linear
                # Drawn on the CPU whatever the device, so that a head starts alike on all of them.
                drawn = torch.empty(parameter.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
                parameter.copy_(drawn)


def seed_of_head(seed: int, task: str) -> int:
    """Seed of a task's head: the same alone and beside any other tasks."""
    return seed_from(seed, "head", task)


_TAKEN = nn.ModuleDict()


class Copy(NamedTuple):
    """One copy of a block in a model.

    Attributes:
        block: The block's number, from 1.
        module: The copy.
        tasks: The tasks that use it.
        shared: Whether it is common to tasks: two or more use it, or the model has only one.
    """

    block: int
    module: nn.Module
    tasks: tuple[str, ...]
    shared: bool


def head_key(task: str) -> str:
    """Name of a task's head in ``model.heads`` and, after ``heads.``, of its parameters.

    It is the task's name, save for the few that are attributes of a torch module (``type``, ``train``, ``keys``).
    """
    return f"{task}:" if hasattr(_TAKEN, task) else task


class MultiTaskModel(nn.Module):
    """One backbone shared between tasks as a plan says, and one head per task.

    Parameters are named ``blocks.{l}.{g}.<name>`` (block l, copy g of the plan), ``heads.{task}.<name>``,
    ``coupling.<name>`` and, in joint training that aligns the tasks' data sets, ``alignment.<name>``.

    Args:
        backbone: Gives the blocks.
        input_shape: Shape of one prepared sample.
        tasks: The tasks, in the study's order.
        plan: Which tasks use the same copy of each block.
        datasets: Names of the data sets, in the order in which a batch holds their rows.
        module_factory: Makes the sharing module that wires the copies; the one of tree-like plans if not given.
        align: Makes what aligns the data sets in joint training; None for a model that is only used.

    Attributes:
        alignment: What aligns the data sets, if anything does; no output depends on it.

    Raises:
        ConfigError: Backbone, tasks, plan, data sets and alignment do not fit each other.
    """

    def __init__(
        self,
        backbone: Backbone,
        input_shape: tuple[int, ...],
        tasks: Sequence[Task],
        plan: SharingPlan,
        datasets: Sequence[str],
        module_factory: SharingFactory = TreeSharing,
        align: Align | None = None,
    ) -> None:
        super().__init__()
        built = backbone.blocks(input_shape)
        self.tasks = tuple(tasks)
        self.plan = plan
        self.datasets = tuple(datasets)
        _check_fit(self.tasks, plan, self.datasets, len(built))
        shapes = [tuple(input_shape), *output_shapes(built, input_shape)]
        self._input_shape = tuple(input_shape)
        self._task_datasets = {task.name: self.datasets.index(task.dataset) for task in self.tasks}
        self.coupling = module_factory(ModelLayout(plan, self._task_datasets, len(self.datasets), built, shapes))
        self.blocks = nn.ModuleList(
            # The first group takes the block itself: whatever the plan, the global random state advances alike.
            nn.ModuleList([block, *(copy.deepcopy(block) for _ in groups[1:])])
            for block, groups in zip(built, plan.groups, strict=True)
        )
        self.heads = nn.ModuleDict({head_key(task.name): Head(self.coupling.features, task) for task in self.tasks})
        self.alignment = None if align is None else align(self.alignment_points())

    def forward(
        self,
        x: Inputs | Tensor,
        sizes: Sequence[int] | None = None,
        context: ForwardContext | None = None,
        start_block: int = 0,
    ) -> dict[str, Tensor]:
        """Raw outputs of every task.

        Args:
            x: Inputs of n rows (a single one as a tensor too), or what ``run_prefix`` gives for them: the rows of the
                data sets one after the other.
            sizes: Rows of each data set in ``x``, summing to n. None: every task sees all rows.
            context: In training, takes down where tasks part and what the sharing module adds to the update.
            start_block: Number of leading blocks that ``x`` has been through; above 0 it needs ``sizes``.

        Returns:
            Raw outputs by task, over the rows of the task's data set (over all rows without ``sizes``).

        Raises:
            ValueError: ``sizes`` does not describe ``x``.
        """
        known = self._sizes(x, sizes, known=bool(start_block))
        features = self.coupling(self._copies(), _first_input(x), known, context, start_block)
        if context is not None and self.alignment is not None:
            if not known:
                raise ValueError("training needs the rows of each data set: the alignment tells them apart")
            self.alignment(alignment_points(context, self._task_datasets, known), context)
        return {
            task.name: head(features[task.name]) for task, head in zip(self.tasks, self.heads.values(), strict=True)
        }

    def alignment_points(self) -> list[AlignmentPoint]:
        """Where tasks of different data sets share a representation last, found by a pass of two rows of each."""
        if len(self.datasets) == 1:
            return []
        sizes = [2] * len(self.datasets)
        context = ForwardContext(global_rows=sizes)
        x = torch.zeros(sum(sizes), *self._input_shape, device=next(self.parameters()).device)
        with torch.no_grad(), evaluating(self):
            self.coupling(self._copies(), x, sizes, context)
        return alignment_points(context, self._task_datasets, sizes)

    def run_prefix(self, x: Inputs | Tensor, sizes: Sequence[int] | None, start_block: int) -> Tensor:
        """What a pass can begin with in place of the first ``start_block`` blocks, (n, ...).

        Args:
            x: Inputs of n rows; a single one as a tensor too.
            sizes: Rows of each data set in ``x``.
            start_block: At most ``coupling.skippable_blocks``.
        """
        return self.coupling.run_prefix(self._copies(), _first_input(x), self._sizes(x, sizes, known=True), start_block)

    def _sizes(self, x: Inputs | Tensor, sizes: Sequence[int] | None, known: bool = False) -> Sequence[int]:
        if len(self.datasets) == 1 or (sizes is None and not known):
            return ()
        if sizes is None or len(sizes) != len(self.datasets) or sum(sizes) != len(x):
            raise ValueError(f"sizes must be the rows of {self.datasets}, {len(x)} in all, got {sizes}")
        return sizes

    @property
    def has_representation(self) -> bool:
        """Whether a pass has any boundary: a tensor that tasks have in common, and at which they part ways.

        In a forest a task may have none though others do: one that shares no block.
        """
        return self.coupling.has_representation

    def copies(self) -> list[Copy]:
        """Every copy of every block, from the input up."""
        fewest = 1 if len(self.tasks) == 1 else 2
        return [
            Copy(number, module, group, len(group) >= fewest)
            for number, (block, groups) in enumerate(zip(self.blocks, self.plan.groups, strict=True), 1)
            for module, group in zip(block.children(), groups, strict=True)
        ]

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters that two tasks or more have in common; in a single-task model, those of all blocks.

        Those of a copy count as shared where two tasks or more use it; a sharing module says so of its own.
        """
        of_blocks = [parameter for copy in self.copies() if copy.shared for parameter in copy.module.parameters()]
        return [*of_blocks, *self.coupling.shared_parameters()]

    def load_base(self, base: Mapping[str, Tensor]) -> None:
        """Start every copy of every block from the base.

        Args:
            base: State of the backbone's blocks, keys ``{l}.<name>``.
        """
        for number, block in enumerate(self.blocks):
            prefix = f"{number}."
            state = {name.removeprefix(prefix): value for name, value in base.items() if name.startswith(prefix)}
            for module in block.children():
                module.load_state_dict(state)

    def initialise(self, seed: int) -> None:
        """Draw all but the blocks anew from the seed and the tasks' names; the global random state stays as it was."""
        for task, head in zip(self.tasks, self.heads.values(), strict=True):
            assert isinstance(head, Head)
            head.initialise(seed_of_head(seed, task.name))
        self.coupling.initialise(seed)
        if self.alignment is not None:
            self.alignment.initialise(seed)

    def _copies(self) -> list[list[nn.Module]]:
        return [list(block.children()) for block in self.blocks]


def _first_input(x: Inputs | Tensor) -> Tensor:
    """What the first block takes: the one tensor of the inputs."""
    return x.single if isinstance(x, Inputs) else x


def _check_fit(tasks: tuple[Task, ...], plan: SharingPlan, datasets: tuple[str, ...], blocks: int) -> None:
    names = tuple(task.name for task in tasks)
    if plan.blocks != blocks:
        raise ConfigError([Problem("sharing", f"must plan for the backbone's {blocks} blocks", plan.blocks)])
    if sorted(plan.tasks) != sorted(names):
        raise ConfigError([Problem("sharing", "must plan for the model's tasks", plan.tasks, names)])
    strangers = [
        Problem(f"tasks.{task.name}.data", "must name a data set of the model", task.dataset, datasets)
        for task in tasks
        if task.dataset not in datasets
    ]
    if strangers:
        raise ConfigError(strangers)
