"""Weighting: how N task losses become one update.

The training step asks for the weights of a step's losses, then does one backward pass of the weighted sum. Methods that
balance gradients read the Gramian of the tasks' gradients too; ``training.balancing`` makes it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, final

import torch
from torch import Tensor

from mtl_search.errors import ConfigError, Problem
from mtl_search.variants.building import Equal

GradientLocation = Literal["representation", "shared", "jacobian_free"]
"""Where the tasks' gradients are taken: at the last shared representation, at all shared parameters, nowhere."""


class JointStage(Protocol):
    """What a weighting may ask of the joint stage that it is for. Each answer may raise while it is not known yet."""

    def longer_than(self, epochs: int) -> bool:
        """Whether the stage has more epochs than these."""

    @property
    def apart(self) -> bool:
        """Whether each task is alone with its parameters: none is shared, and no penalty ties two tasks."""

    @property
    def complete(self) -> bool:
        """Whether every task has labels in every batch."""

    @property
    def scale_free(self) -> bool:
        """Whether a constant factor on a task's loss changes no update of a parameter that this task has alone."""


class Weighting(ABC):
    """A way to weight task losses; the constructor's signature is its schema in the study file.

    An instance belongs to one job: ``start`` it before the first step. Weights are scaled so that equal weighting is 1
    for every task, whatever the method: then weights and learning rate are not confounded.

    Attributes:
        places: Where the method can take gradients, the cheapest first.
        cross_terms: Whether it needs how the gradients of different tasks lie to each other (off-diagonal entries).
        at: The place that the study file asks for; "auto" for the cheapest that fits.
    """

    places: ClassVar[tuple[GradientLocation, ...]] = ("jacobian_free",)
    cross_terms: ClassVar[bool] = False
    at: str = "auto"
    _tasks: tuple[str, ...] = ()

    def idle(self, stage: JointStage) -> bool:
        """Whether the stage comes to what equal weights give, whatever the method's parameters.

        Args:
            stage: The joint stage.
        """
        return False

    def simpler(self, tasks: Sequence[str]) -> Equal["Weighting"] | None:
        """A simpler weighting with the same weights at every step; None where there is none.

        Args:
            tasks: The study's tasks in their order, two or more.
        """
        return None

    @final
    def start(self, tasks: Sequence[str], device: torch.device | str, seed: int = 0) -> None:
        """Get ready for a job.

        Args:
            tasks: Tasks in the order of the losses.
            device: Where the losses are.
            seed: Decides what the method draws at random, on every rank alike.

        Raises:
            ConfigError: The parameters do not suit the tasks, or a package that the method needs is not installed.
        """
        if not tasks:
            raise ConfigError([Problem("weighting", "must have at least one task")])
        self._tasks = tuple(tasks)
        self._start(self._tasks, torch.device(device), seed)

    def check(self, tasks: Sequence[str]) -> None:
        """Whether the parameters suit the tasks; by default, whether the method gets ready for them.

        Args:
            tasks: Tasks in the order of the losses.

        Raises:
            ConfigError: As from ``start``.
        """
        self.start(tasks, "cpu")

    @final
    def __call__(self, losses: Tensor, present: Tensor | None = None, gramian: Tensor | None = None) -> Tensor:
        """Weights of one step.

        Args:
            losses: Losses of the whole batch, (K,), in the order of the tasks; no gradient is taken through them here.
            present: Which tasks have a label in the batch, bool (K,) on the CPU; None where all have. An absent task's
                loss and gradient are 0 and change nothing that the method remembers.
            gramian: Inner products of the tasks' gradients over the whole batch, (K, K), for methods that read it.

        Returns:
            Weights (K,) without gradient; an absent task's is 0. The update is that of ``(weights * losses).sum()``.

        Raises:
            ValueError: There is not one loss per started task, or the Gramian is missing or of another shape.
        """
        count = len(self._tasks)
        if losses.shape != (count,):
            raise ValueError(f"losses must be ({count},), one per started task, got {tuple(losses.shape)}")
        if self.places[0] != "jacobian_free" and (gramian is None or gramian.shape != (count, count)):
            shape = None if gramian is None else tuple(gramian.shape)
            raise ValueError(f"{type(self).__name__} must be given the Gramian ({count}, {count}), got {shape}")
        if present is not None and bool(present.all()):
            present = None
        if count == 1 or (present is not None and int(present.sum()) <= 1):
            here = torch.ones(count, dtype=torch.bool) if present is None else present
            return here.to(losses.device, losses.dtype)  # alone, a task is trained as it would be without the method
        with torch.no_grad():
            return self._weights(losses.detach(), present, gramian)

    def end_epoch(self) -> None:  # noqa: B027
        """Hear that an epoch is over; nothing by default."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed job needs beside the parameters: tensors and plain values; nothing by default."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state_dict`` gave.

        Raises:
            ValueError: The state is another weighting's.
        """
        if state:
            raise ValueError(f"{type(self).__name__} has no state, got {sorted(state)}")

    def _start(self, tasks: tuple[str, ...], device: torch.device, seed: int) -> None:  # noqa: B027  most need nothing
        """Check the parameters against the tasks and make what every step needs; nothing by default."""

    @abstractmethod
    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        """Weights (K,) for detached losses (K,) of two tasks or more; ``present`` is None where all are."""
