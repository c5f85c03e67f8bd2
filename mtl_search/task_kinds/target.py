"""What a kind is told of a task: what the study file says, the target as read, and what was fitted on training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np


class StatedTask(Protocol):
    """What a study file says of a task."""

    @property
    def target(self) -> list[str]:
        """Target columns."""

    @property
    def missing(self) -> object:
        """The value that marks a missing label; None if there is none."""

    @property
    def positive(self) -> object:
        """The label that counts as 1; None if the file names none."""

    @property
    def order(self) -> Sequence[object] | None:
        """The labels from the lowest to the highest; None if the file does not list them."""

    @property
    def class_weight(self) -> object:
        """``balanced``, or weights by label; None where every label counts the same."""


class FittedTask(Protocol):
    """What is known of a task once it was fitted on training rows."""

    @property
    def name(self) -> str:
        """The task's name."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the outputs; empty for numbers."""

    @property
    def center(self) -> float:
        """What is taken off a number, in the target's own unit; 0 for labels."""

    @property
    def scale(self) -> float:
        """What a number is divided by, in the target's own unit, never 0; 1 for labels."""

    @property
    def loss(self) -> str:
        """Name of the training loss."""

    @property
    def loss_params(self) -> Mapping[str, Any]:
        """Parameters of the training loss that are not at their default."""

    @property
    def class_weights(self) -> tuple[float, ...]:
        """What each label counts in the loss, as ``TaskKind.fit_class_weights`` gives it; empty where all count 1."""


@dataclass(frozen=True)
class RawTarget:
    """A target as read, before anything is fitted.

    Attributes:
        values: Labels (n,) as texts, "" where there is none; or numbers (n,), or 0 and 1 (n, L), 0 where there is none.
        mask: Where there is a label; bool, same shape.
        marked: Whether a row holds the value that the study file gives for a missing label.
        weights: What each row counts in the loss, (n,), at least 0; None where every row counts 1.
    """

    values: np.ndarray
    mask: np.ndarray
    marked: bool = False
    weights: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> RawTarget:
        """The target at some rows."""
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, values=self.values[rows], mask=self.mask[rows], marked=False, weights=weights)


@dataclass(frozen=True)
class Fit:
    """What training rows say of a task.

    Attributes:
        labels: As in ``FittedTask``.
        center: As in ``FittedTask``.
        scale: As in ``FittedTask``.
    """

    labels: tuple[str, ...] = ()
    center: float = 0.0
    scale: float = 1.0
