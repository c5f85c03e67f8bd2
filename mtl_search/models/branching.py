"""Growing: a multi-task model put together from plain data, and tasks added to it after it was trained.

`export.champion` rebuilds a finished model with it; `extension` adds tasks to one. A later task follows the way of an
earlier one up to some depth; what the earlier tasks compute stays the same operations on the same tensors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

from torch import Tensor, nn

from mtl_search.data.task import Task
from mtl_search.models.backbones import BACKBONES
from mtl_search.models.forward_context import ForwardContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.models.sharing import SHARINGS
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.models.sharing.sharing_module import Blocks, ModelLayout, SharingFactory, SharingModule
from mtl_search.models.sharing.tree_sharing import TreeSharing
from mtl_search.recipe import Component
from mtl_search.variants.building import build

_INNER = "coupling.inner."


@dataclass(frozen=True)
class TaskBranch:
    """One task that a finished model gets.

    Attributes:
        task: Its name.
        like: An earlier task, whose way through the blocks it follows.
        depth: Number of leading blocks that it has in common with that task; it has its own copies of the others.
    """

    task: str
    like: str
    depth: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Blueprint:
    """All that a trained model is built from but its parameters.

    Attributes:
        backbone: Variant of ``BACKBONES``.
        input_shape: Shape of one prepared sample.
        blocks: Number of blocks of the backbone.
        sharing: How the first tasks share the blocks.
        tasks: Every task; the first ones, then those of ``task_branches`` in their order.
        datasets: Names of data sets, in the order of a batch; those of none of the tasks are passed over.
        task_branches: Tasks that came later.
    """

    backbone: Component
    input_shape: tuple[int, ...]
    blocks: int
    sharing: Component
    tasks: tuple[Task, ...]
    datasets: tuple[str, ...]
    task_branches: tuple[TaskBranch, ...] = ()

    def grown(self, tasks: Sequence[Task], task_branches: Sequence[TaskBranch]) -> "Blueprint":
        """The same with more tasks."""
        datasets = dict.fromkeys([*self.datasets, *(task.dataset for task in tasks)])
        return replace(
            self,
            tasks=(*self.tasks, *tasks),
            datasets=tuple(datasets),
            task_branches=(*self.task_branches, *task_branches),
        )

    def model(self, tasks: Sequence[Task] | None = None) -> MultiTaskModel:
        """The model as torch's global random state makes it, on the CPU.

        Args:
            tasks: In place of ``tasks``, the same with other data sets, losses or metrics.

        Raises:
            ConfigError: Backbone, sharing and tasks do not fit each other.
        """
        first = self.tasks[: len(self.tasks) - len(self.task_branches)]
        sharing = build(SHARINGS, self.sharing)
        plan = sharing.plan([task.name for task in first], self.blocks)
        module_factory: SharingFactory = sharing.module_factory
        if self.task_branches:
            module_factory = _extend_factory(
                module_factory, plan, first, _used(self.datasets, first), self.task_branches
            )
            plan = extend_plan(plan, self.task_branches)
        chosen = self.tasks if tasks is None else tuple(tasks)
        names = _used(dict.fromkeys([*self.datasets, *(task.dataset for task in chosen)]), chosen)
        return MultiTaskModel(build(BACKBONES, self.backbone), self.input_shape, chosen, plan, names, module_factory)


def extend_plan(plan: SharingPlan, task_branches: Sequence[TaskBranch]) -> SharingPlan:
    """A plan with later tasks in it; copies that were there keep their places."""
    for growth in task_branches:
        groups, starts = [], []
        for number, (block, start) in enumerate(zip(plan.groups, plan.starts, strict=True)):
            if number < growth.depth:
                groups.append(tuple((*group, growth.task) if growth.like in group else group for group in block))
                starts.append(start)
            else:
                groups.append((*block, (growth.task,)))
                starts.append((*start, (growth.task,)))
        plan = SharingPlan(tuple(groups), tuple(starts), plan.tree)
    return plan


def can_branch(model: MultiTaskModel) -> bool:
    """Whether a task's way through the model is one copy of each block, so that another may branch off it anywhere."""
    return model.plan.tree and not model.coupling.state_dict()


def extend_state(
    model: MultiTaskModel, old: Mapping[str, Tensor], task_branches: Sequence[TaskBranch]
) -> dict[str, Tensor]:
    """State of a model that has just grown: what was there as it was, own copies as those of the task they are like.

    Args:
        model: The grown model; its new heads stay as they are.
        old: State of the model before.
        task_branches: What it has grown by.
    """
    known = {name.replace("coupling.", _INNER, 1): value for name, value in old.items() if name.startswith("coupling.")}
    known |= old
    for growth in task_branches:
        for number in range(growth.depth, model.plan.blocks):
            mine, other = (f"blocks.{number}.{model.plan.group_of(number, t)}." for t in (growth.task, growth.like))
            known |= {mine + name.removeprefix(other): v for name, v in known.items() if name.startswith(other)}
    return {name: known.get(name, value).detach().clone() for name, value in model.state_dict().items()}


def _used(datasets: Mapping[str, None] | Sequence[str], tasks: Sequence[Task]) -> list[str]:
    return [name for name in datasets if any(task.dataset == name for task in tasks)]


def _extend_factory(
    module_factory: SharingFactory,
    plan: SharingPlan,
    first: Sequence[Task],
    datasets: Sequence[str],
    task_branches: Sequence[TaskBranch],
) -> SharingFactory:
    def make(layout: ModelLayout) -> SharingModule:
        task_datasets = {task.name: datasets.index(task.dataset) for task in first}
        inner = module_factory(ModelLayout(plan, task_datasets, len(datasets), layout.blocks, layout.shapes))
        if layout.plan.tree and not inner.state_dict():
            return TreeSharing(layout)
        return _BranchedSharing(inner, task_branches)

    return make


@final
class _BranchedSharing(SharingModule):
    """The sharing module of the first tasks, whose features later tasks take too; for one data set, or all rows."""

    def __init__(self, inner: SharingModule, task_branches: Sequence[TaskBranch]) -> None:
        super().__init__(inner.features, has_representation=False)
        self.inner: nn.Module = inner
        self._task_branches = tuple(task_branches)

    def forward(
        self, blocks: Blocks, x: Tensor, sizes: Sequence[int], context: ForwardContext | None, start_block: int = 0
    ) -> dict[str, Tensor]:
        """Features of all rows, whatever the data set; what the inner sharing module adds to the update is left out."""
        assert not sizes, "later tasks train on one data set"
        features: dict[str, Tensor] = dict(self.inner(blocks, x, (), None))
        for growth in self._task_branches:
            features[growth.task] = features[growth.like]
        return features
