"""Adversarial: a trunk that all tasks share and that must not tell their data sets apart, and a private trunk each."""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from mtl_search.data.task import Task
from mtl_search.errors import ConfigError, Problem
from mtl_search.models.forward_context import ForwardContext
from mtl_search.models.sharing.base import Sharing
from mtl_search.models.sharing.discriminator import Discriminator
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.models.sharing.sharing_module import Blocks, ModelLayout, SharingModule, State, select_datasets
from mtl_search.recipe import NonNegativeFloat, PositiveFloat


class Adversarial(Sharing):
    """Adversarial shared-private: heads see [shared; private] features, and the shared ones are kept task-invariant.

    A linear discriminator predicts from the shared features of a row which data set it is from. Its cross-entropy (mean
    over the rows of the global batch, times ``strength``) teaches the discriminator and, behind gradient reversal, the
    shared trunk to make it fail. For each task, with shared and private features S and P (rows, features) of the n rows
    of its data set in the global batch, ``orthogonality`` * ||S^T P / n||_F^2 keeps the two apart.

    Start: the shared trunk is the fusion of all tasks, a private one its task's. A head's weights are those of the
    single-task model, half for each trunk: where both trunks give the same, so does the head.

    For gradient balancing, the shared trunk is shared, and the tasks part at its output; private trunks are each task's
    own. Both penalties belong to no task and are added to the update unweighted. Cost: N + 1 trunks instead of N, heads
    of twice the width, and the shared trunk runs once on all rows.

    Paper: Liu et al., Adversarial Multi-task Learning for Text Classification, ACL 2017, https://arxiv.org/abs/1704.05742

    Args:
        strength: Factor of the discriminator's cross-entropy.
        orthogonality: Factor of the penalty between shared and private features.
    """

    def __init__(self, strength: PositiveFloat = 0.05, orthogonality: NonNegativeFloat = 0.01) -> None:
        self.strength = strength
        self.orthogonality = orthogonality

    def check(self, tasks: Sequence[Task]) -> None:
        """Whether there are data sets to tell apart.

        Raises:
            ConfigError: All tasks have the same one.
        """
        if len({task.dataset for task in tasks}) < 2:
            rule = "needs tasks on two data sets or more: its discriminator tells the data sets of rows apart"
            raise ConfigError([Problem("sharing.adversarial", rule)])

    def _plan(self, tasks: tuple[str, ...], blocks: int) -> SharingPlan:
        return SharingPlan(((tasks, *((task,) for task in tasks)),) * blocks, tree=False)

    def _module_factory(self, layout: ModelLayout) -> SharingModule:
        return _SharedPrivate(layout, self.strength, self.orthogonality)


@final
class _SharedPrivate(SharingModule):
    """Copy 0 of each block is the shared trunk's, copy 1 + k that of task k."""

    def __init__(self, layout: ModelLayout, strength: float, orthogonality: float) -> None:
        features = layout.shapes[-1][0]
        super().__init__(2 * features, has_representation=True)
        self._strength, self._orthogonality = strength, orthogonality
        self._task_datasets = {task: (home,) for task, home in layout.task_datasets.items()}
        self._batch, self._rows = layout.batch, layout.datasets_of(layout.tasks)
        self.discriminator = Discriminator(features, len(self._rows))
        self.initialise(0)

    def forward(
        self, blocks: Blocks, x: Tensor, sizes: Sequence[int], context: ForwardContext | None, start_block: int = 0
    ) -> dict[str, Tensor]:
        shared = select_datasets(x, sizes, self._batch, self._rows)
        for copies in blocks:
            shared = copies[0](shared)
        if context is not None:
            context.part(tuple(self._task_datasets), shared)
        private, features = {}, {}
        for number, (task, home) in enumerate(self._task_datasets.items(), 1):
            y = select_datasets(x, sizes, self._batch, home)
            for copies in blocks:
                y = copies[number](y)
            private[task] = y
            own = shared if context is None else context.own(task)[0]
            features[task] = torch.cat([select_datasets(own, sizes, self._rows, home), y], 1)
        if context is not None:
            self._penalise(shared, private, sizes, context)
        return features

    def _penalise(
        self, shared: Tensor, private: Mapping[str, Tensor], sizes: Sequence[int], context: ForwardContext
    ) -> None:
        if not sizes and len(self._rows) > 1:
            raise ValueError("training needs the rows of each data set: the discriminator learns which is which")
        # One data set is never split; without the global batch's rows, this rank's are the batch.
        known = sizes or [len(shared)] * len(self._batch)
        total = list(context.global_rows) or known
        with torch.autocast(shared.device.type, enabled=False):
            shared = shared.float()
            confusion = self.discriminator(shared, [known[i] for i in self._rows])
            context.penalise(self._strength * confusion / max(sum(total[i] for i in self._rows), 1))
            if self._orthogonality:
                products = torch.stack(
                    [
                        select_datasets(shared, sizes, self._rows, home).T
                        @ private[task].float()
                        / max(total[home[0]], 1)
                        for task, home in self._task_datasets.items()
                    ]
                )
                context.penalise(self._orthogonality * squared_sum(products, context))

    def initialise(self, seed: int) -> None:
        self.discriminator.initialise(seed, "discriminator")

    def start_of_head(self, single: State) -> dict[str, Tensor]:
        halved = {name: value / 2 for name, value in single.items() if value.ndim == 2}
        return super().start_of_head(single) | {name: torch.cat([half, half], 1) for name, half in halved.items()}


def squared_sum(products: Tensor, context: ForwardContext) -> Tensor:
    """This rank's part of || sum over ranks of products ||_F^2.

    Args:
        products: This rank's summand, of any shape.
        context: Sums over the ranks.

    Returns:
        A scalar. The values of all ranks sum up to that of one process with all rows, and so do the gradients: that of
        the square is twice the product of the whole sum with the gradient of each rank's own summand.
    """
    whole = context.sum(products.detach().clone())
    part = (whole * products).sum()
    return 2 * part - part.detach()
