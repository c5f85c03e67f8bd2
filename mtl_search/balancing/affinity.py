"""Affinity: how well tasks go together, measured at all shared parameters while they train jointly.

A stage that measures it is a joint stage like any other, with passes in between that change nothing. The search makes
groups of what it finds.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtl_search.balancing.gradients import jacobian, parts
from mtl_search.balancing.losses import TaskLosses
from mtl_search.data.batching import Batch
from mtl_search.data.task import Task
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.modes import evaluating
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.weighting.base import GradientLocation


class Affinity:
    """A running mean of the tasks' affinity.

    ``cosine``: of two tasks' gradients, symmetric, from -1 to 1. ``look_ahead``: 1 - L_j(theta - lr g_i) / L_j(theta),
    the share by which a step on task i alone lowers the loss of task j; positive where i helps j.

    Paper: Fifty et al., Efficiently Identifying Task Groupings, NeurIPS 2021, https://arxiv.org/abs/2109.04617

    Args:
        kind: ``cosine`` or ``look_ahead``.
        model: Not wrapped.
        losses: Of the model's tasks.
        world: The group that trains together.
    """

    def __init__(self, kind: str, model: MultiTaskModel, losses: TaskLosses, world: DistributedContext) -> None:
        self._look_ahead = kind == "look_ahead"
        self._model, self._losses, self._world = model, losses, world
        count = len(model.tasks)
        self._total = torch.zeros(count, count, device=world.device)
        self._times = torch.zeros(count, count, device=world.device)

    def measure(self, batch: Batch, shares: Tensor, present: Tensor | None, lr: float) -> None:
        """Take in one batch; parameters, buffers and their gradients stay as they are.

        Args:
            batch: This rank's rows.
            shares: What one label counts for in its task's mean over the global batch, (tasks,).
            present: Which tasks have a label in it, (tasks,) on the CPU; None where all have.
            lr: Length of the look-ahead step in gradients.
        """
        shared = [parameter for parameter in self._model.shared_parameters() if parameter.requires_grad]
        if not shared:
            return
        with evaluating(self._model):
            losses = self._losses(self._model, batch) * shares
            rows = jacobian(losses.unbind(), shared, self._world)
            before = self._world.sum(losses.detach().clone())
            with torch.no_grad():
                found = self._ahead(batch, shares, shared, rows, before, lr) if self._look_ahead else _cosines(rows)
        known = (rows.abs().amax(1) > 0) & (before > 0)
        if present is not None:
            known &= present.to(known.device)
        pairs = known & known[:, None] & found.isfinite()
        self._total += torch.where(pairs, found, 0.0)
        self._times += pairs

    def means(self) -> dict[str, dict[str, float]]:
        """Mean affinity of each task (i, the outer key) to every other (j); unmeasured pairs are left out."""
        names = [task.name for task in self._model.tasks]
        means, times = (self._total / self._times.clamp(min=1)).tolist(), self._times.tolist()
        return {a: {b: means[i][j] for j, b in enumerate(names) if i != j and times[i][j]} for i, a in enumerate(names)}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed stage needs."""
        return {"total": self._total, "times": self._times}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
        self._total.copy_(state["total"])
        self._times.copy_(state["times"])

    def _ahead(
        self,
        batch: Batch,
        shares: Tensor,
        shared: Sequence[nn.Parameter],
        gradients: Tensor,
        before: Tensor,
        lr: float,
    ) -> Tensor:
        starts = [parameter.detach().clone() for parameter in shared]
        rows = []
        for gradient in gradients:
            for parameter, start, part in zip(shared, starts, parts(gradient, shared), strict=True):
                parameter.copy_(start - lr * part)
            after = self._world.sum(self._losses(self._model, batch) * shares)
            rows.append(1 - after / before)
        for parameter, start in zip(shared, starts, strict=True):
            parameter.copy_(start)
        return torch.stack(rows)


def _cosines(gradients: Tensor) -> Tensor:
    gramian = gradients @ gradients.T
    lengths = gramian.diagonal().sqrt()
    return gramian / lengths / lengths[:, None]


MOST_TASKS = 40
"""With more tasks, a report of every pair would be longer than the rest of a study's records."""


class Cosines:
    """A running mean of cosines.

    Args:
        tasks: The model's.
        place: Where the gradients are taken. At the representation, tasks with data sets of their own stand on
            different samples and are not compared.
        device: Where the Gramians are.
    """

    def __init__(self, tasks: Sequence[Task], place: GradientLocation, device: torch.device) -> None:
        self._tasks = tasks
        self._comparable = torch.tensor(
            [[place == "shared" or a.dataset == b.dataset for b in tasks] for a in tasks], device=device
        )
        self._sum = torch.zeros(len(tasks), len(tasks), device=device)
        self._times = torch.zeros(len(tasks), len(tasks), device=device)

    def clear(self) -> None:
        """Begin a new epoch."""
        self._sum.zero_()
        self._times.zero_()

    def add(self, gramian: Tensor | None) -> None:
        """Take in one step's Gramian (tasks, tasks), where there is one; a task without gradient is left out."""
        if gramian is None:
            return
        norms = gramian.diagonal().clamp(min=0).sqrt()
        known = (norms > 0) & norms.isfinite()
        pairs = known & known[:, None] & self._comparable
        lengths = norms * norms[:, None]
        self._sum += torch.where(pairs, gramian / torch.where(pairs, lengths, 1.0), 0.0)
        self._times += pairs

    def means(self) -> dict[str, dict[str, float]]:
        """Mean cosine by task and later task, from -1 to 1; pairs that were never seen together are left out."""
        if len(self._tasks) > MOST_TASKS:
            return {}
        means, times = (self._sum / self._times.clamp(min=1)).tolist(), self._times.tolist()
        found = {
            a.name: {b.name: means[i][j] for j, b in enumerate(self._tasks) if j > i and times[i][j]}
            for i, a in enumerate(self._tasks)
        }
        return {task: others for task, others in found.items() if others}
