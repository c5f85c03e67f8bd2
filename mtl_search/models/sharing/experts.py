"""Experts: copies of the upper blocks that every task mixes by a gate of its own."""

from collections.abc import Sequence
from math import log
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtl_search.errors import ConfigError, Problem
from mtl_search.models.forward_context import ForwardContext
from mtl_search.models.sharing.base import Sharing
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.models.sharing.sharing_module import Blocks, ModelLayout, SharingModule, draw_uniform, select_datasets
from mtl_search.recipe import Count, CountOrZero, NonNegativeInt
from mtl_search.variants.building import Equal

_PLACE = "sharing.experts"
_OWN = 0.9
"""What a gate gives at its start, in all, to the experts that start from its task."""


class Experts(Sharing):
    """Experts: several copies of the upper blocks, mixed for each task and row by a softmax gate.

    A task's features are sum_e g_e(h) expert_e(h) with g = softmax(W h + b), where h is what the shared lower blocks
    give, averaged over the positions of images and sequences. Without ``private`` every task mixes all experts (MMoE);
    with it, the shared ones and its own (CGC, one layer of PLE).

    Start: the lower blocks are the fusion of all tasks. Shared expert e is the upper part of the single-task model e
    mod K; with fewer experts than tasks, the fusion of the tasks t with t mod count = e. Private experts start from
    their task. A gate starts near 9/10 for the experts that start from its own task, so that the mixture begins close
    to what the task's head was trained on, and with small random weights: two experts that start alike would get equal
    gradients from equal gates, and stay alike.

    For gradient balancing, lower blocks and shared experts are shared; the tasks part at (h, outputs of the shared
    experts), and gates and private experts are each task's own. Cost against N single-task models: lower blocks once,
    and ``count + N * private`` upper parts instead of N.

    Paper: Ma et al., Modeling Task Relationships with Multi-gate Mixture-of-Experts, KDD 2018, https://doi.org/10.1145/3219819.3220007
    Paper: Tang et al., Progressive Layered Extraction, RecSys 2020, https://doi.org/10.1145/3383313.3412236

    Args:
        count: Number of shared experts.
        depth: Number of shared blocks below the experts; None for all blocks but the last.
        private: Number of experts that each task has for itself.
    """

    def __init__(self, count: Count = 4, depth: NonNegativeInt | None = None, private: CountOrZero = 0) -> None:
        self.count = count
        self.depth = depth
        self.private = private

    def simpler(self, tasks: Sequence[str], blocks: int) -> Equal[Sharing] | None:
        """No depth where it is that of all blocks but the last."""
        return (Experts, {"count": self.count, "private": self.private}) if self.depth == blocks - 1 else None

    def _plan(self, tasks: tuple[str, ...], blocks: int) -> SharingPlan:
        depth = blocks - 1 if self.depth is None else self.depth
        if depth >= blocks:
            rule = f"must be less than the backbone's {blocks} blocks, or no block is left for the experts"
            raise ConfigError([Problem(f"{_PLACE}.depth", rule, depth)])
        own = tuple((task,) for task in tasks for _ in range(self.private))
        starts = tuple(tasks[e :: self.count] or (tasks[e % len(tasks)],) for e in range(self.count))
        upper = blocks - depth
        return SharingPlan(
            ((tasks,),) * depth + ((tasks,) * self.count + own,) * upper,
            ((tasks,),) * depth + (starts + own,) * upper,
            tree=False,
        )

    def _module_factory(self, layout: ModelLayout) -> SharingModule:
        depth = layout.plan.blocks - 1 if self.depth is None else self.depth
        return _Mixture(layout, depth, self.count, self.private)


@final
class _Mixture(SharingModule):
    """``gates`` (tasks, experts, features of h) and ``biases`` (tasks, experts): shared ones first, then private."""

    def __init__(self, layout: ModelLayout, depth: int, count: int, private: int) -> None:
        skippable_blocks = depth if layout.datasets_of(layout.tasks) == layout.batch else 0
        super().__init__(layout.shapes[-1][0], has_representation=True, skippable_blocks=skippable_blocks)
        self._depth, self._count, self._private = depth, count, private
        self._task_datasets = {task: (home,) for task, home in layout.task_datasets.items()}
        self._batch, self._rows = layout.batch, layout.datasets_of(layout.tasks)
        shape = layout.shapes[depth]
        self._pooled = _pooled(shape)
        width = shape[-1] if len(shape) == 2 else shape[0]
        starts = layout.plan.starts[depth]
        self._starts = [
            starts[:count] + starts[count + k * private : count + (k + 1) * private] for k in range(len(layout.tasks))
        ]
        self.gates = nn.Parameter(torch.zeros(len(layout.tasks), count + private, width))
        self.biases = nn.Parameter(torch.zeros(len(layout.tasks), count + private))
        self.initialise(0)

    def forward(
        self, blocks: Blocks, x: Tensor, sizes: Sequence[int], context: ForwardContext | None, start_block: int = 0
    ) -> dict[str, Tensor]:
        h = select_datasets(x, sizes, self._batch, self._rows)
        for copies in blocks[start_block : self._depth]:
            h = copies[0](h)
        upper = blocks[self._depth :]
        shared = torch.stack([_run(upper, expert, h) for expert in range(self._count)], 1)
        # Without lower blocks h is the input, which belongs to nobody.
        boundary = (h, shared) if self._depth else (shared,)
        if context is not None:
            context.part(tuple(self._task_datasets), *boundary)
        features = {}
        for number, (task, home) in enumerate(self._task_datasets.items()):
            own = boundary if context is None else context.own(task)
            theirs = select_datasets(own[0] if self._depth else h, sizes, self._rows, home)
            experts = select_datasets(own[-1], sizes, self._rows, home)
            first = self._count + number * self._private
            private = [_run(upper, first + index, theirs) for index in range(self._private)]
            if private:
                experts = torch.cat([experts, torch.stack(private, 1)], 1)
            pooled = theirs.mean(self._pooled) if self._pooled else theirs
            mix = functional.linear(pooled, self.gates[number], self.biases[number]).softmax(1)
            features[task] = (mix.unsqueeze(1) @ experts).squeeze(1)
        return features

    def initialise(self, seed: int) -> None:
        bound = self.gates.shape[2] ** -0.5
        with torch.no_grad():
            for task, starts, gates, biases in zip(
                self._task_datasets, self._starts, self.gates, self.biases, strict=True
            ):
                own = sum(task in start for start in starts)
                other = len(starts) - own
                for expert, start in enumerate(starts):
                    # Keyed by what the expert starts from, not its place: the order of tasks must not show.
                    key = (task, start, starts[:expert].count(start))
                    gates[expert] = draw_uniform(gates.shape[1:], bound, seed, "gate", *key)
                    share = _OWN / own if task in start else (1 - _OWN) / max(other, 1)
                    biases[expert] = log(share)


def _run(blocks: Blocks, copy: int, x: Tensor) -> Tensor:
    for copies in blocks:
        x = copies[copy](x)
    return x


def _pooled(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The dimensions of a batch that are positions: those after the channels, or before the features of a sequence."""
    return (1,) if len(shape) == 2 else tuple(range(2, len(shape) + 1))
