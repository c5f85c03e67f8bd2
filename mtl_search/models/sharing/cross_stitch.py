"""CrossStitch: a trunk per task, whose activations are mixed after every block."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from mtl_search.models.forward_context import ForwardContext
from mtl_search.models.sharing.base import Sharing
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.models.sharing.sharing_module import Blocks, ModelLayout, SharingModule, select_datasets
from mtl_search.recipe import Fraction


class CrossStitch(Sharing):
    """Cross-stitch units: after each block, task i goes on with sum_j A_ij h_j, a learned mixture of all trunks.

    There is one matrix A (tasks, tasks) per block, the last included; every trunk runs on the rows of all data sets of
    the model. Trunks start as the single-task models.

    For gradient balancing, all trunks and all matrices but the last are shared; the tasks part at the outputs of the
    trunks, and a task's row of the last matrix is its own. Cost: that of N single-task models on the same rows (with a
    data set per task, each trunk also runs on the others' rows) and N^2 multiply-adds per activation.

    Paper: Misra et al., Cross-stitch Networks for Multi-task Learning, CVPR 2016, https://arxiv.org/abs/1604.03539

    Args:
        own: What a task's own trunk counts in its mixtures at the start; the others share the rest.
    """

    def __init__(self, own: Fraction = 0.9) -> None:
        self.own = own

    def _plan(self, tasks: tuple[str, ...], blocks: int) -> SharingPlan:
        starts = SharingPlan.separate(tasks, blocks).groups
        return SharingPlan(((tasks,) * len(tasks),) * blocks, starts, tree=False)

    def _module_factory(self, layout: ModelLayout) -> SharingModule:
        return _Stitched(layout, self.own)


@final
class _Stitched(SharingModule):
    """``stitches.{l}`` is the matrix after block l."""

    def __init__(self, layout: ModelLayout, own: float) -> None:
        super().__init__(layout.shapes[-1][0], has_representation=True)
        self._task_datasets = {task: (home,) for task, home in layout.task_datasets.items()}
        self._batch, self._rows = layout.batch, layout.datasets_of(layout.tasks)
        self._own = own
        tasks = len(self._task_datasets)
        self.stitches = nn.ParameterList(nn.Parameter(torch.zeros(tasks, tasks)) for _ in layout.blocks)
        self.initialise(0)

    def forward(
        self, blocks: Blocks, x: Tensor, sizes: Sequence[int], context: ForwardContext | None, start_block: int = 0
    ) -> dict[str, Tensor]:
        inputs: Sequence[Tensor] = [select_datasets(x, sizes, self._batch, self._rows)] * len(self._task_datasets)
        for copies, stitch in zip(blocks[:-1], self.stitches, strict=False):
            outputs = torch.stack([copy(h) for copy, h in zip(copies, inputs, strict=True)])
            inputs = (stitch @ outputs.flatten(1)).view_as(outputs).unbind(0)
        trunks = torch.stack([copy(h) for copy, h in zip(blocks[-1], inputs, strict=True)], 1)
        if context is not None:
            context.part(tuple(self._task_datasets), trunks)
        features = {}
        for row, (task, home) in zip(self.stitches[-1], self._task_datasets.items(), strict=True):
            own = trunks if context is None else context.own(task)[0]
            features[task] = (row.unsqueeze(0) @ select_datasets(own, sizes, self._rows, home)).squeeze(1)
        return features

    def shared_parameters(self) -> list[nn.Parameter]:
        return list(self.stitches)[:-1]

    def initialise(self, seed: int) -> None:
        with torch.no_grad():
            for stitch in self.stitches:
                stitch.fill_((1 - self._own) / (len(stitch) - 1)).fill_diagonal_(self._own)
