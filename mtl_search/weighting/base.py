"""Weighting: how N task losses become one update.

The training step asks for the weights of a step's losses, then does one backward pass of the weighted sum.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from mtl_search.errors import ConfigError, Problem


class Weighting(ABC):
    """A way to weight task losses; the constructor's signature is its schema in the study file.

    An instance belongs to one job: ``start`` it before the first step.
    """

    _tasks: tuple[str, ...] = ()

    @final
    def start(self, tasks: Sequence[str], device: torch.device | str) -> None:
        """Get ready for a job.

        Args:
            tasks: Tasks in the order of the losses.
            device: Where the losses are.

        Raises:
            ConfigError: The parameters do not suit the tasks.
        """
        if not tasks:
            raise ConfigError([Problem("weighting", "must have at least one task")])
        self._tasks = tuple(tasks)
        self._start(self._tasks, torch.device(device))

    @final
    def __call__(self, losses: Tensor) -> Tensor:
        """Weights of one step.

        Args:
            losses: Losses of the whole batch, (K,), in the order of the tasks; no gradient is taken through them here.

        Returns:
            Weights (K,) without gradient; the update is that of ``(weights * losses).sum()``.

        Raises:
            ValueError: There is not one loss per started task.
        """
        if losses.shape != (len(self._tasks),):
            raise ValueError(f"losses must be ({len(self._tasks)},), one per started task, got {tuple(losses.shape)}")
        return self._weights(losses.detach())

    def state_dict(self) -> dict[str, Any]:
        """What a resumed job needs beside the parameters; nothing by default."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state_dict`` gave.

        Raises:
            ValueError: The state is another weighting's.
        """
        if state:
            raise ValueError(f"{type(self).__name__} has no state, got {sorted(state)}")

    def _start(self, tasks: tuple[str, ...], device: torch.device) -> None:  # noqa: B027  most need nothing
        """Check the parameters against the tasks and make what every step needs; nothing by default."""

    @abstractmethod
    def _weights(self, losses: Tensor) -> Tensor:
        """Weights (K,) for detached losses (K,)."""
