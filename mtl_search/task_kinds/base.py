"""TaskKind: the base class of all kinds of task.

A kind knows everything that differs between kinds: how a target is read, fitted and encoded, what a head gives, losses,
predictions, metrics, and what fusion, extension, export and serving need. The rest of the package asks a kind and never
compares names. The family stands below the study file's configuration, so this package imports torch inside methods
only: reading a study file needs none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

import numpy as np

from mtl_search.errors import Problem
from mtl_search.task_kinds.target import Fit, FittedTask, RawTarget, StatedTask
from mtl_search.variants.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mtl_search.task_kinds.losses import Loss

__all__ = [
    "MASKED",
    "Alias",
    "Answer",
    "Fit",
    "FittedTask",
    "RawTarget",
    "StatedTask",
    "TaskKind",
    "losses_of",
]
MASKED = -1
"""Stands for a missing label in a metric's targets where a row has several; torchmetrics leaves such entries out."""

Alias = tuple[str, Mapping[str, Any]]
"""A torchmetrics class, and arguments of its constructor."""
Answer = Literal["value", "label", "second_label", "median_label", "labels"]
"""How a served model answers a task, see ``export.served``."""


def losses_of(**classes: str) -> Registry[Loss]:
    """Losses by name; each is a class of ``task_kinds.losses``, which is imported when a loss is used."""
    return Registry("mtl_search.task_kinds", {name: f"losses:{kind}" for name, kind in classes.items()})


class TaskKind(ABC):
    """A kind of task; stateless. In shapes, n is the number of rows and L the number of labels.

    "Scaled unit" is the unit that a model is trained in. Labels have none; their predictions are probabilities.

    Attributes:
        several_targets: Whether a task may name several target columns, and a column of two axes is one target.
        has_positive: Whether the study file may name the label that counts as 1.
        has_order: Whether the labels have an order, which the study file may list.
        labelled: Whether the target is one label out of a few. Its column is then kept as it is spelled, and splits are
            stratified by it.
        has_classes: Whether the study file may say what each label counts in the loss.
        losses: Training losses by name; the first is the default.
        default_metric: The metric of a task for which the study file names none.
        aliases: Short names of metrics.
        metric_module: The torchmetrics module in which other metrics are looked up.
        metric_prefix: What may be left out at the start of a metric's class name.
        checks_metric_arguments: Whether the metrics take ``validate_args``.
        natural_scale: Whether errors are judged relative to the error of the training mean.
        has_entropy: Whether ``entropies`` is defined.
        agreement: The metric that says how well two models agree.
        answer: How a served model answers.
    """

    several_targets: ClassVar[bool] = False
    has_positive: ClassVar[bool] = False
    has_order: ClassVar[bool] = False
    has_classes: ClassVar[bool] = False
    labelled: ClassVar[bool] = False
    losses: ClassVar[Registry[Loss]]
    default_metric: ClassVar[str]
    aliases: ClassVar[Mapping[str, Alias]]
    metric_module: ClassVar[str] = "torchmetrics.classification"
    metric_prefix: ClassVar[str] = ""
    checks_metric_arguments: ClassVar[bool] = True
    natural_scale: ClassVar[bool] = False
    has_entropy: ClassVar[bool] = True
    agreement: ClassVar[str] = "accuracy"
    answer: ClassVar[Answer]

    # Targets

    @abstractmethod
    def read(self, columns: Sequence[np.ndarray], stated: StatedTask) -> RawTarget:
        """Read the target of one split.

        Args:
            columns: The target columns (n,); (n, L) where ``several_targets`` and there is one column.
            stated: What the study file says.

        Raises:
            ValueError: A value is not what the kind takes; the message names rule, row and value.
        """

    def merge_labels(self, targets: Mapping[str, RawTarget], stated: StatedTask) -> dict[str, RawTarget]:
        """Replace labels after all splits were read.

        Args:
            targets: Split to target.
            stated: What the study file says.
        """
        return dict(targets)

    @abstractmethod
    def fit(self, place: str, stated: StatedTask, train: RawTarget, problems: list[Problem]) -> Fit | None:
        """Learn labels, or center and scale, from training rows.

        Args:
            place: Key path of the task, for problems.
            stated: What the study file says.
            train: At least one row has a label.
            problems: Grows by what is wrong.

        Returns:
            What was learned; None if the target cannot be learned.
        """

    @abstractmethod
    def encode(self, task: FittedTask, raw: RawTarget, split: str, problems: list[Problem], known: bool) -> np.ndarray:
        """Targets as the losses take them, 0 where there is no label.

        Args:
            task: The task.
            raw: Its labels in one split.
            split: That split's name, for problems.
            problems: Grows by what is wrong.
            known: Whether the task is a trained model's, and was not fitted on these data.

        Returns:
            (n,) or (n, L), int64 or float32.
        """

    def fit_class_weights(
        self, place: str, stated: StatedTask, train: RawTarget, labels: Sequence[str], problems: list[Problem]
    ) -> tuple[float, ...]:
        """What labels count in the loss, where the study file says anything of it.

        Args:
            place: Key path of the task, for problems.
            stated: What the study file says.
            train: Labels of the training rows.
            labels: The labels in the order of the outputs.
            problems: Grows by what is wrong.

        Returns:
            As many numbers as ``weigh_labels`` needs; none where all labels count 1.
        """
        return ()

    def weigh_labels(self, task: FittedTask, targets: np.ndarray) -> np.ndarray:
        """What each entry counts in the loss by its label alone, the shape of the targets, float64."""
        return np.ones(targets.shape)

    def mismatches(self, task: FittedTask, raw: RawTarget) -> list[Problem]:
        """What keeps a trained model's task from being judged on a target that was read.

        Args:
            task: The model's task.
            raw: The target in the training rows.
        """
        return []

    def positive_label(self, task: FittedTask) -> str | None:
        """The label that counts as 1, where the kind has one."""
        return None

    def describe(self, task: FittedTask, targets: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
        """Label counts of one split as plain JSON; ``labels`` is the number of labels.

        Args:
            task: The task.
            targets: As ``encode`` gives them.
            mask: Where there is a label, same shape.
        """
        return {"labels": int(mask.sum())}

    def count_rarest(self, described: Mapping[str, Any]) -> int | None:
        """Number of labels of the rarest class in a split; None for a kind without classes.

        Args:
            described: What ``describe`` gave.
        """
        return None

    # Model

    @abstractmethod
    def output_shape(self, task: FittedTask) -> tuple[int, ...]:
        """Shape of a head's raw outputs for one row: () for one number, (L,) for L numbers."""

    def prediction_shape(self, task: FittedTask) -> tuple[int, ...]:
        """Shape of the prediction for one row."""
        return self.output_shape(task)

    @final
    def loss_sum(
        self, task: FittedTask, raw: Tensor, targets: Tensor, mask: Tensor | None, weights: Tensor | None = None
    ) -> Tensor:
        """Sum of the task's loss over labelled entries, in float32.

        Args:
            task: The task.
            raw: Raw outputs (n, *output_shape).
            targets: As ``encode`` or ``soft_targets`` gives them.
            mask: Where there is a label, (n,) or (n, L); None where all entries have one.
            weights: What each entry counts, the shape of the mask; None where all count 1.

        Returns:
            Scalar; 0, with a gradient of 0, where no entry has a label.
        """
        import torch

        loss, raw = self.losses[task.loss](**task.loss_params), raw.float()
        if mask is None and weights is None:
            return loss(raw, targets, "sum")
        each = loss(raw, targets, "none")
        each = each if mask is None else torch.where(mask, each, 0.0)
        return (each if weights is None else each * weights).sum()

    @abstractmethod
    def activate(self, task: FittedTask, raw: Tensor) -> Tensor:
        """Probabilities of labels, or values in the scaled unit, (n, *prediction_shape).

        Args:
            task: The task.
            raw: Raw outputs (n, *output_shape).
        """

    def in_own_unit(self, task: FittedTask, values: Tensor) -> Tensor:
        """Values in the target's own unit, from the scaled unit; probabilities stay as they are."""
        return values

    @final
    def predict(self, task: FittedTask, raw: Tensor) -> Tensor:
        """Probabilities of labels, or values in the target's own unit, (n, *prediction_shape).

        Args:
            task: The task.
            raw: Raw outputs (n, *output_shape).
        """
        return self.in_own_unit(task, self.activate(task, raw))

    def needs_double(self, task: FittedTask) -> bool:
        """Whether values in the target's own unit need float64."""
        return False

    # Metrics

    def metric_arguments(self, task: FittedTask) -> dict[str, Any]:
        """Arguments that every metric of the task takes."""
        return {}

    def own_metrics(self) -> dict[str, type[Any]]:
        """Metrics that torchmetrics does not have in this form: class by name."""
        return {}

    def targets_in_own_unit(self, task: FittedTask, targets: Tensor) -> Tensor:
        """Encoded targets as metrics take them: labels as whole numbers, values in the target's own unit."""
        return targets.long()

    @abstractmethod
    def perfect(self, task: FittedTask, targets: Tensor) -> Tensor:
        """What ``activate`` would give if it said what the targets say."""

    @abstractmethod
    def trivial(self, task: FittedTask, targets: Tensor) -> Tensor:
        """What ``activate`` would give at its worst: the contrary of every label, or the training mean."""

    # Fusion and extension

    @abstractmethod
    def surprisal(self, task: FittedTask, raw: Tensor, generator: torch.Generator) -> Tensor:
        """-log p(y | x), with y drawn from the model's own predictive distribution and held fixed.

        Args:
            task: The task.
            raw: Raw outputs (n, *output_shape), float32.
            generator: On the CPU.

        Returns:
            Scalar, the sum over rows and labels. Any number with the same squared gradient will do.
        """

    def entropies(self, raw: Tensor) -> Tensor:
        """Entropy of the prediction for each row or label, in nats.

        Args:
            raw: Raw outputs (n, *output_shape), float32.
        """
        raise NotImplementedError(f"{type(self).__name__} has no entropy")

    @final
    def mean_entropy(self, raw: Tensor) -> Tensor:
        """Mean of ``entropies``, a scalar; 0 where there are no rows."""
        each = self.entropies(raw.float())
        return each.sum() / max(each.numel(), 1)

    @abstractmethod
    def soft_targets(self, raw: Tensor, temperature: float) -> Tensor:
        """A model's outputs as targets of the default loss, softened by a temperature.

        Args:
            raw: Raw outputs (n, *output_shape).
            temperature: What logits are divided by.
        """

    @abstractmethod
    def hard_targets(self, raw: Tensor) -> Tensor:
        """A model's predictions as targets, in the form that ``encode`` gives."""

    @abstractmethod
    def constant(self, task: FittedTask, targets: Tensor, mask: Tensor, rows: int) -> Tensor:
        """The same prediction for every row: label frequencies or the mean of training rows.

        Args:
            task: The task.
            targets: Of the training rows, as ``encode`` gives them.
            mask: Where there is a label, same shape.
            rows: How many rows to predict.

        Returns:
            As ``activate``, for ``rows`` rows.
        """

    def mask_shape(self, targets: Tensor) -> tuple[int, ...]:
        """Shape of the mask that belongs to hard or soft targets."""
        return tuple(targets.shape[:1])

    # Serving

    @property
    def answers_numbers(self) -> bool:
        """Whether a served model answers with numbers; otherwise with labels and their probabilities."""
        return self.answer == "value"

    @abstractmethod
    def describe_answer(self, task: FittedTask) -> str:
        """What the task predicts, in a few words for the model card."""
