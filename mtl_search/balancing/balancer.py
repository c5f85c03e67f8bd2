"""Balancing: task losses of one batch -> task weights -> gradients on every parameter, one class per place.

The innermost part of a training step. A weighting that reads losses alone weighs them before the backward pass. One
that balances gradients reads the Gramian of the tasks' gradients: at the last shared representation, where the backward
pass stops on its way for the weights, or at all shared parameters, exactly. There, a parameter that one task has alone
gets that task's own gradient, as published. Whatever the place, two workers make the gradients of one: losses and
Gramians are summed over the ranks.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mtl_search.balancing.gradients import parts, split_jacobian
from mtl_search.balancing.losses import TaskLosses
from mtl_search.balancing.representation_gradients import RepresentationGradients, backward
from mtl_search.balancing.source_tasks import NO_SOURCE_TASKS, SourceTasks
from mtl_search.data.batching import Batch
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.forward_context import ForwardContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.weighting.base import GradientLocation, Weighting
from mtl_search.weighting.jacobian import JacobianWeighting


@dataclass(frozen=True)
class BatchStats:
    """What all ranks know of a global batch.

    Attributes:
        shares: What one label counts for in its task's mean over the batch, (tasks,).
        present: Which tasks have a label in it, (tasks,) on the CPU; None where all have.
        rows: Its rows from each data set.
        starts: For each data set, how many of those rows lie on earlier ranks.
        progress: Share of the stage's steps done before it, in [0, 1).
        scale: Factor on all gradients, against underflow in half precision; scalar.
    """

    shares: Tensor
    present: Tensor | None
    rows: Sequence[int]
    starts: Sequence[int]
    progress: float
    scale: Tensor

    def scaled(self, scale: Tensor) -> "BatchStats":
        """The same with another factor."""
        return replace(self, scale=scale)


@dataclass(frozen=True)
class BalancedLosses:
    """What a backward pass came to.

    Attributes:
        losses: Mean task losses of the global batch, (tasks,).
        weights: Used for the update, (tasks,).
        gramian: Inner products of the tasks' gradients over the global batch, (tasks, tasks); None where not measured.
    """

    losses: Tensor
    weights: Tensor
    gramian: Tensor | None


class Balancer(ABC):
    """Puts the gradients of one step on the parameters.

    Args:
        model: Not wrapped.
        weighting: Started.
        losses: Of the model's tasks.
        world: The group that trains together.
        auxiliaries: The source tasks among the model's.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        weighting: Weighting,
        losses: TaskLosses,
        world: DistributedContext,
        auxiliaries: SourceTasks = NO_SOURCE_TASKS,
    ) -> None:
        self._model, self._weighting, self._losses, self._world = model, weighting, losses, world
        self._auxiliaries = auxiliaries
        self._tasks = [task.name for task in model.tasks]

    @abstractmethod
    def backward(self, batch: Batch, wrapped: nn.Module, stats: BatchStats) -> BalancedLosses:
        """One forward and backward pass; leaves the gradients, times ``stats.scale``, on the parameters.

        Args:
            batch: This rank's rows.
            wrapped: The model whose backward pass averages gradients over the ranks.
            stats: What all ranks know of the batch.
        """

    def _context(self, stats: BatchStats, cut: bool = False) -> ForwardContext:
        world = self._world
        return ForwardContext(cut, world.size, world.sum, stats.rows, stats.starts, stats.progress)

    def _weigh(self, losses: Tensor, stats: BatchStats, gramian: Tensor | None) -> Tensor:
        """The weighting's answer for the target tasks, and what source tasks weigh.

        All are 1 where half precision overflowed: the update will be passed over.
        """
        if gramian is not None and self._world.scales and not bool(gramian.isfinite().all()):
            return torch.ones_like(losses)
        own = self._auxiliaries.targets
        present = None if stats.present is None else own(stats.present)
        if gramian is not None:
            gramian = own(own(gramian).T)
        return self._auxiliaries.joined(self._weighting(own(losses), present, gramian), stats.progress)


class JacobianFree(Balancer):
    """Weights from losses alone, then one backward pass of the weighted sum.

    Attributes:
        measures: Whether the next pass measures the Gramian at the shared representation beside.
    """

    measures: bool = False

    def backward(self, batch: Batch, wrapped: nn.Module, stats: BatchStats) -> BalancedLosses:
        context = self._context(stats, cut=self.measures and self._model.has_representation)
        sums = self._losses(wrapped, batch, context)
        losses = self._world.sum(sums.detach() * stats.shares)
        weights = self._weigh(losses, stats, None)
        # DDP averages gradients over ranks; the parts must add up, so each counts as often as there are ranks.
        factor = stats.scale * self._world.size
        if not context.cut:
            backward([sums, *context.penalties], [weights * stats.shares * factor, *[factor] * len(context.penalties)])
            return BalancedLosses(losses, weights, None)
        boundaries = RepresentationGradients(self._tasks, context, sums, weights * stats.shares * factor, factor)
        gramian = self._world.sum(boundaries.gramian())
        boundaries.finish(torch.ones_like(weights))
        known = torch.where(weights > 0, weights, 1.0)
        return BalancedLosses(losses, weights, gramian / known / known[:, None])


class AtRepresentation(Balancer):
    """Gradients at the last representation that tasks share: tasks' own parts backward, weights, the trunk backward.

    Every part of the net goes backward once. Where tasks part at several depths (a tree), a task's gradient is carried
    from its deepest boundary to the shallower ones, once per task, and the Gramian is that of all boundaries together.
    """

    def backward(self, batch: Batch, wrapped: nn.Module, stats: BatchStats) -> BalancedLosses:
        context = self._context(stats, cut=True)
        sums = self._losses(wrapped, batch, context)
        losses = self._world.sum(sums.detach() * stats.shares)
        factor = stats.scale * self._world.size
        boundaries = RepresentationGradients(self._tasks, context, sums, stats.shares * factor, factor)
        gramian = self._world.sum(boundaries.gramian())
        weights = self._weigh(losses, stats, gramian)
        boundaries.finish(weights)
        return BalancedLosses(losses, weights, gramian)


class AtSharedParameters(Balancer):
    """Gradients at all shared parameters, exactly: one backward pass per task.

    Keeps tasks x shared parameters numbers, and sends as many to the other ranks in every step.
    """

    def backward(self, batch: Batch, wrapped: nn.Module, stats: BatchStats) -> BalancedLosses:
        context = self._context(stats)
        sums = self._losses(self._model, batch, context)
        losses = self._world.sum(sums.detach() * stats.shares)
        known = {id(parameter) for parameter in self._model.shared_parameters()}
        learning = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        shared = [parameter for parameter in learning if id(parameter) in known]
        own = [parameter for parameter in learning if id(parameter) not in known]
        roots = list((sums * stats.shares * stats.scale).unbind())
        penalties = [penalty for penalty in context.penalties if penalty.requires_grad]
        if penalties:
            roots.append(torch.stack(penalties).sum() * stats.scale)
        rows, rest = split_jacobian(roots, shared, own, self._world)
        of_tasks, of_penalties = rows[: len(self._tasks)], rows[len(self._tasks) :].sum(0)
        gramian = (of_tasks @ of_tasks.T) / stats.scale**2
        weights = self._weigh(losses, stats, gramian)
        if isinstance(self._weighting, JacobianWeighting):
            targets = self._auxiliaries.targets
            present = None if stats.present is None else targets(stats.present)
            combined = self._weighting.combine(targets(of_tasks), present)
            others = len(self._tasks) - self._auxiliaries.count
            combined = combined + weights[others:] @ of_tasks[others:]
        else:
            combined = weights @ of_tasks
        _assign(combined + of_penalties, shared)
        _assign(rest, own)
        return BalancedLosses(losses, weights, gramian)


BALANCERS: dict[GradientLocation, type[Balancer]] = {
    "jacobian_free": JacobianFree,
    "representation": AtRepresentation,
    "shared": AtSharedParameters,
}


def _assign(row: Tensor, parameters: Sequence[nn.Parameter]) -> None:
    for parameter, part in zip(parameters, parts(row, parameters), strict=True):
        parameter.grad = part.to(parameter.dtype)
