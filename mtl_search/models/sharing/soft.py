"""Soft: a trunk per task, and a penalty that draws the trunks together."""

from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor

from mtl_search.errors import ConfigError, Problem
from mtl_search.models.forward_context import ForwardContext
from mtl_search.models.sharing.base import Sharing
from mtl_search.models.sharing.plan import SharingPlan
from mtl_search.models.sharing.sharing_module import Blocks, ModelLayout, SharingModule
from mtl_search.models.sharing.tree_sharing import TreeSharing
from mtl_search.recipe import PositiveFloat, PositiveInt
from mtl_search.variants.building import Equal

_SMOOTHING = 1e-8
"""Added to squared singular values: where copies are equal most are zero, and a root has no slope at zero."""


class Soft(Sharing):
    """Soft parameter sharing: every task has its own trunk, coupled to the others' by a penalty.

    With copies theta_1..theta_K of a coupled parameter, ``l2`` adds strength * sum_i ||theta_i - mean_j theta_j||^2 to
    the loss, and ``trace`` strength * ||[theta_1; ..; theta_K]||_*, the sum of the singular values of the matrix that
    has a row per task; both are summed over the parameters. Trunks start as the single-task models.

    For gradient balancing nothing is shared: the tasks' gradients meet in no parameter, and the penalty, which belongs
    to no task, is added to the update unweighted. Cost: that of N single-task models, and the penalty in training.

    Paper: Duong et al., Low Resource Dependency Parsing: Cross-lingual Parameter Sharing, ACL 2015, https://aclanthology.org/P15-2139
    Paper: Yang and Hospedales, Trace Norm Regularised Deep Multi-Task Learning, ICLR workshop 2017, https://arxiv.org/abs/1606.04038

    Args:
        strength: Factor of the penalty.
        form: ``l2`` (Duong et al.) or ``trace`` (Yang and Hospedales).
        blocks: Number of coupled blocks, the first ones; None for all.
    """

    def __init__(
        self, strength: PositiveFloat = 1e-3, form: Literal["l2", "trace"] = "l2", blocks: PositiveInt | None = None
    ) -> None:
        self.strength = strength
        self.form = form
        self.blocks = blocks

    def simpler(self, tasks: Sequence[str], blocks: int) -> Equal[Sharing] | None:
        """No number of blocks where it is that of the whole backbone."""
        return (Soft, {"strength": self.strength, "form": self.form}) if self.blocks == blocks else None

    def _plan(self, tasks: tuple[str, ...], blocks: int) -> SharingPlan:
        if self.blocks is not None and self.blocks > blocks:
            rule = f"must be at most the backbone's {blocks} blocks"
            raise ConfigError([Problem("sharing.soft.blocks", rule, self.blocks)])
        return SharingPlan.separate(tasks, blocks)

    def _module_factory(self, layout: ModelLayout) -> SharingModule:
        return _Penalised(layout, self.strength, self.form, self.blocks or layout.plan.blocks)


@final
class _Penalised(SharingModule):
    def __init__(self, layout: ModelLayout, strength: float, form: str, blocks: int) -> None:
        routing = TreeSharing(layout)
        super().__init__(routing.features, has_representation=False, skippable_blocks=routing.skippable_blocks)
        self.routing = routing
        self._strength, self._blocks = strength, blocks
        self._penalty = trace_penalty if form == "trace" else l2_penalty

    def forward(
        self, blocks: Blocks, x: Tensor, sizes: Sequence[int], context: ForwardContext | None, start_block: int = 0
    ) -> dict[str, Tensor]:
        if context is not None:
            tensors = [
                torch.stack(parameters)
                for copies in blocks[: self._blocks]
                for parameters in zip(*(copy.parameters() for copy in copies), strict=True)
            ]
            # The same on every rank, and the ranks' parts are summed up.
            context.penalise(self._penalty(tensors) * (self._strength / context.ranks))
        features: dict[str, Tensor] = self.routing(blocks, x, sizes, context, start_block)
        return features

    def run_prefix(self, blocks: Blocks, x: Tensor, sizes: Sequence[int], start_block: int) -> Tensor:
        return self.routing.run_prefix(blocks, x, sizes, start_block)


def l2_penalty(stacked: Sequence[Tensor]) -> Tensor:
    """Squared distances of every task's parameters to the tasks' mean.

    Args:
        stacked: Parameters (K, ...) each, a row per task.

    Returns:
        Their sum, a scalar.
    """
    if not stacked:
        return torch.zeros(())
    return torch.stack([(values - values.mean(0)).square().sum() for values in stacked]).sum()


def trace_penalty(stacked: Sequence[Tensor]) -> Tensor:
    """Trace norms of the matrices that have a row per task: the sums of their singular values.

    Args:
        stacked: Parameters (K, ...) each, a row per task.

    Returns:
        The sum over the parameters, a scalar, with a finite gradient at any point.
    """
    if not stacked:
        return torch.zeros(())
    with torch.autocast(stacked[0].device.type, enabled=False):
        flat = [values.unsqueeze(-1).flatten(1) for values in stacked]
        squares: Tensor = torch.linalg.eigvalsh(torch.stack([rows @ rows.T for rows in flat]))
    return (squares.clamp(min=0) + _SMOOTHING).sqrt().sum()
