"""Cosines: how the tasks' gradients lie to each other, averaged over an epoch; task affinity is made of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_search.data.task import Task
from mtl_search.weighting.base import Place

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

    def __init__(self, tasks: Sequence[Task], place: Place, device: torch.device) -> None:
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
