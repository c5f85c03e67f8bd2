"""Adapters: one trunk for all tasks, and a low-rank change of its weights for each."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtl_search.errors import ConfigError, Problem
from mtl_search.models.forward_context import ForwardContext
from mtl_search.models.sharing.base import Sharing
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.models.sharing.sharing_module import (
    Blocks,
    ModelLayout,
    SharingModule,
    State,
    draw_uniform,
    select_datasets,
)
from mtl_search.recipe import NonNegativeInt, Width


class Adapters(Sharing):
    """Low-rank adapters: task i runs the shared trunk with W_i = W + U_i V_i in its linear and 2d convolution layers.

    The trunk starts as the fusion of all tasks. ``difference``: U_i V_i is the best approximation of that rank of what
    the fusion took from the task, theta_i - W, with V_i orthonormal (so that U_i learns even where theta_i = W).
    ``zero``: U_i = 0 and V_i is random. Convolutions count as matrices (outputs, inputs * height * width). Biases and
    norms have no adapters.

    For gradient balancing, the whole trunk is shared. The tasks part after ``depth`` blocks, and the representation
    there says nothing of the trunk's weights above: balanced at the representation, those take the plain sum of the
    tasks' gradients; balanced at the shared parameters, all of the trunk is. With ``depth`` 0 there is no common
    representation. Cost against N single-task models: parameters of one trunk and rank * (inputs + outputs) per layer
    and task; multiply-adds of N from ``depth`` on.

    Paper: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022, https://arxiv.org/abs/2106.09685

    Args:
        rank: Of each change; less where a layer is smaller.
        depth: Number of blocks without adapters, the first ones.
        start: Where the changes start.
    """

    def __init__(
        self, rank: Width = 4, depth: NonNegativeInt = 0, start: Literal["zero", "difference"] = "difference"
    ) -> None:
        self.rank = rank
        self.depth = depth
        self.start = start

    def _plan(self, tasks: tuple[str, ...], blocks: int) -> SharingPlan:
        if self.depth >= blocks:
            rule = f"must be less than the backbone's {blocks} blocks, or no block is left for adapters"
            raise ConfigError([Problem("sharing.adapters.depth", rule, self.depth)])
        return SharingPlan(((tasks,),) * blocks)

    def _module_factory(self, layout: ModelLayout) -> SharingModule:
        return _Adapted(layout, self.rank, self.depth, difference=self.start == "difference")


@final
class _Adapted(SharingModule):
    """For adapted layer j ``left.{j}`` (tasks, outputs, rank) and ``right.{j}`` (tasks, rank, inputs)."""

    def __init__(self, layout: ModelLayout, rank: int, depth: int, *, difference: bool) -> None:
        skippable_blocks = depth if layout.datasets_of(layout.tasks) == layout.batch else 0
        super().__init__(layout.shapes[-1][0], has_representation=depth > 0, skippable_blocks=skippable_blocks)
        self._depth, self._difference = depth, difference
        self._task_datasets = {task: (home,) for task, home in layout.task_datasets.items()}
        self._batch, self._rows = layout.batch, layout.datasets_of(layout.tasks)
        self._layers = [
            (number, name)
            for number, block in enumerate(layout.blocks)
            if number >= depth
            for name in _adaptable(block)
        ]
        if not self._layers:
            rule = f"needs a linear or 2d convolution layer after the first {depth} blocks of the backbone"
            raise ConfigError([Problem("sharing.adapters", rule)])
        self.left, self.right = nn.ParameterList(), nn.ParameterList()
        for number, name in self._layers:
            weight = layout.blocks[number].get_parameter(name).detach().flatten(1)
            fits = min(rank, *weight.shape)
            self.left.append(nn.Parameter(weight.new_zeros(len(self._task_datasets), weight.shape[0], fits)))
            self.right.append(nn.Parameter(weight.new_zeros(len(self._task_datasets), fits, weight.shape[1])))
        self.initialise(0)

    def forward(
        self, blocks: Blocks, x: Tensor, sizes: Sequence[int], context: ForwardContext | None, start_block: int = 0
    ) -> dict[str, Tensor]:
        h = select_datasets(x, sizes, self._batch, self._rows)
        for copies in blocks[start_block : self._depth]:
            h = copies[0](h)
        noted = context if self._depth else None
        if noted is not None:
            noted.part(tuple(self._task_datasets), h)
        features = {}
        for index, (task, home) in enumerate(self._task_datasets.items()):
            y = select_datasets(h if noted is None else noted.own(task)[0], sizes, self._rows, home)
            for number, copies in enumerate(blocks[self._depth :], self._depth):
                y = functional_call(copies[0], self._weights(copies[0], number, index), (y,))
            features[task] = y
        return features

    def _weights(self, block: nn.Module, number: int, task: int) -> dict[str, Tensor]:
        weights = {}
        for (place, name), left, right in zip(self._layers, self.left, self.right, strict=True):
            if place == number:
                weight = attrgetter(name)(block)  # in a functional call a tensor may stand for the parameter
                weights[name] = weight + (left[task] @ right[task]).view_as(weight)
        return weights

    def initialise(self, seed: int) -> None:
        with torch.no_grad():
            for layer, (left, right) in enumerate(zip(self.left, self.right, strict=True)):
                left.zero_()
                for task, rows in zip(self._task_datasets, right, strict=True):
                    rows.copy_(draw_uniform(rows.shape, rows.shape[1] ** -0.5, seed, "adapter", task, layer))

    def start(self, singles: Mapping[str, Sequence[State]], fused: Sequence[Sequence[State]]) -> dict[str, Tensor]:
        state = super().start(singles, fused)
        if self._difference:
            for layer, (number, name) in enumerate(self._layers):
                left, right = state[f"left.{layer}"], state[f"right.{layer}"]
                rank = left.shape[2]
                for index, task in enumerate(self._task_datasets):
                    gap = singles[task][number][name].double() - fused[number][0][name].double()
                    u, s, v = torch.linalg.svd(gap.flatten(1), full_matrices=False)
                    left[index] = u[:, :rank] * s[:rank]
                    right[index] = v[:rank]
        return state


def _adaptable(block: nn.Module) -> list[str]:
    """Names of the weights of a block's linear and convolution layers; one that several layers use counts once."""
    own = {name for name, _ in block.named_parameters()}
    names = [
        f"{place}.weight" if place else "weight"
        for place, module in block.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    return [name for name in names if name in own]
