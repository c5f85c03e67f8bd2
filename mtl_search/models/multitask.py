"""MultiTaskModel: blocks copied as a sharing plan says, one head per task.

Single-task models are the case of one task. ``fusion.apply`` gives the parameters it starts from, ``training`` trains
it, ``models.deployed`` wraps it for use.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtl_search.data.task import Task
from mtl_search.errors import ConfigError, Problem
from mtl_search.models.backbones.base import Backbone, count_features
from mtl_search.models.heads import Head, seed_of_head
from mtl_search.models.sharing.base import SharingPlan

_TAKEN = nn.ModuleDict()


def head_key(task: str) -> str:
    """Name of a task's head in ``model.heads`` and, after ``heads.``, of its parameters.

    It is the task's name, save for the few that are attributes of a torch module (``type``, ``train``, ``keys``).
    """
    return f"{task}:" if hasattr(_TAKEN, task) else task


@dataclass(frozen=True)
class _Route:
    """Where a module's input comes from.

    Attributes:
        parent: Index of the group of the block before.
        keep: Which of the parent's data sets the module needs; None for all.
        datasets: The parent's data sets, as indices into the batch's.
    """

    parent: int
    keep: tuple[int, ...] | None
    datasets: tuple[int, ...]


class MultiTaskModel(nn.Module):
    """One backbone shared between tasks as a plan says, and one head per task.

    Parameters are named ``blocks.{l}.{g}.<name>`` (block l, group g of the plan) and ``heads.{task}.<name>``.

    Args:
        backbone: Gives the blocks.
        input_shape: Shape of one prepared sample.
        tasks: The tasks, in the study's order.
        plan: Which tasks use the same copy of each block.
        datasets: Names of the data sets, in the order in which a batch holds their rows.

    Raises:
        ConfigError: Backbone, tasks, plan and data sets do not fit each other.
    """

    def __init__(
        self,
        backbone: Backbone,
        input_shape: tuple[int, ...],
        tasks: Sequence[Task],
        plan: SharingPlan,
        datasets: Sequence[str],
    ) -> None:
        super().__init__()
        built = backbone.blocks(input_shape)
        self.tasks = tuple(tasks)
        self.plan = plan
        self.datasets = tuple(datasets)
        _check_fit(self.tasks, plan, self.datasets, len(built))
        features = count_features(built, input_shape)
        self.blocks = nn.ModuleList(
            # The first group takes the block itself: whatever the plan, the global random state advances alike.
            nn.ModuleList([block, *(copy.deepcopy(block) for _ in groups[1:])])
            for block, groups in zip(built, plan.groups, strict=True)
        )
        self.heads = nn.ModuleDict({head_key(task.name): Head(features, task) for task in self.tasks})
        self._block_routes, self._head_routes = _routes(self.tasks, plan, self.datasets)

    def forward(self, x: Tensor, sizes: Sequence[int] | None = None) -> dict[str, Tensor]:
        """Raw outputs of every task; each (block, group) runs once.

        Args:
            x: Prepared features (n, *input_shape): the rows of the data sets one after the other.
            sizes: Rows of each data set in ``x``, summing to n. None: every task sees all rows.

        Returns:
            Raw outputs by task, over the rows of the task's data set (over all rows without ``sizes``).

        Raises:
            ValueError: ``sizes`` does not describe ``x``.
        """
        if sizes is None or len(self.datasets) == 1:
            take, sizes = _all_rows, ()
        elif len(sizes) == len(self.datasets) and sum(sizes) == x.shape[0]:
            take = _own_rows
        else:
            raise ValueError(f"sizes must be the rows of {self.datasets}, {x.shape[0]} in all, got {tuple(sizes)}")
        outputs = [x]
        for block, routes in zip(self.blocks, self._block_routes, strict=True):
            assert isinstance(block, nn.ModuleList)
            outputs = [
                module(take(route, outputs[route.parent], sizes)) for module, route in zip(block, routes, strict=True)
            ]
        return {
            task.name: head(take(route, outputs[route.parent], sizes))
            for task, head, route in zip(self.tasks, self.heads.values(), self._head_routes, strict=True)
        }

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters that two tasks or more have in common; in a single-task model, those of all blocks."""
        fewest = 1 if len(self.tasks) == 1 else 2
        return [
            parameter
            for block, groups in zip(self.blocks, self.plan.groups, strict=True)
            for module, group in zip(block.children(), groups, strict=True)
            if len(group) >= fewest
            for parameter in module.parameters()
        ]

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

    def initialise_heads(self, seed: int) -> None:
        """Draw every head anew from the seed and its task's name; the global random state stays as it was."""
        for task, head in zip(self.tasks, self.heads.values(), strict=True):
            assert isinstance(head, Head)
            head.initialise(seed_of_head(seed, task.name))


def _all_rows(route: _Route, x: Tensor, sizes: Sequence[int]) -> Tensor:
    return x


def _own_rows(route: _Route, x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Cut the rows that a module needs out of its parent's output (n_parent, ...)."""
    if route.keep is None:
        return x
    parts = torch.split(x, [sizes[dataset] for dataset in route.datasets])
    return parts[route.keep[0]] if len(route.keep) == 1 else torch.cat([parts[k] for k in route.keep])


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


def _routes(
    tasks: tuple[Task, ...], plan: SharingPlan, datasets: tuple[str, ...]
) -> tuple[list[list[_Route]], list[_Route]]:
    """Inputs of every (block, group) and of every head: nothing of this is worked out again in ``forward``."""
    index = {task.name: datasets.index(task.dataset) for task in tasks}
    parents: tuple[tuple[str, ...], ...] = (plan.tasks,)
    # A batch holds the rows of every data set, those of none of the model's tasks included.
    rows: list[tuple[int, ...]] = [tuple(range(len(datasets)))]
    block_routes = []
    for groups in plan.groups:
        block_routes.append([_route(group, parents, rows, index) for group in groups])
        rows = [tuple(sorted({index[name] for name in group})) for group in groups]
        parents = groups
    return block_routes, [_route((task.name,), parents, rows, index) for task in tasks]


def _route(
    group: tuple[str, ...], parents: tuple[tuple[str, ...], ...], rows: list[tuple[int, ...]], index: dict[str, int]
) -> _Route:
    parent = next(i for i, members in enumerate(parents) if group[0] in members)
    needed = {index[name] for name in group}
    keep = tuple(i for i, dataset in enumerate(rows[parent]) if dataset in needed)
    return _Route(parent, None if len(keep) == len(rows[parent]) else keep, rows[parent])
