"""Training losses of all kinds of tasks. A class's constructor has the parameters that a study file may set.

This module imports torch. A kind names its losses through a registry, which imports this module when a loss is used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

from torch import Tensor
from torch.nn import functional

from mtl_search.recipe import NonNegativeFloat, ProperFraction
from mtl_search.task_kinds.ordinal import log_probabilities

_LOWEST_FACTOR = 1e-12
"""The least 1 - p whose power is taken: the derivative of a root is infinite at 0."""


class Loss(ABC):
    """A training loss."""

    @abstractmethod
    def __call__(self, raw: Tensor, targets: Tensor, reduction: str) -> Tensor:
        """The loss; lower is better.

        Args:
            raw: Raw outputs (n, *output_shape), float32.
            targets: As ``TaskKind.encode`` gives them; of the default loss also as ``TaskKind.soft_targets`` does.
            reduction: ``none`` or ``sum``.

        Returns:
            For ``none``, (n,) or for several labels a row (n, L); for ``sum`` a scalar.
        """


@final
class CrossEntropy(Loss):
    """Cross-entropy of the softmax.

    Paper: label smoothing: Szegedy et al., Rethinking the Inception Architecture, CVPR 2016,
    https://arxiv.org/abs/1512.00567

    Args:
        label_smoothing: The share of each target that is spread evenly over all labels.
    """

    def __init__(self, label_smoothing: ProperFraction = 0.0) -> None:
        self._smoothing = label_smoothing

    def __call__(self, raw: Tensor, targets: Tensor, reduction: str) -> Tensor:
        return functional.cross_entropy(raw, targets, reduction=reduction, label_smoothing=self._smoothing)


@final
class Focal(Loss):
    """Focal loss: cross-entropy times (1 - p) ** gamma, where p is the probability of the right label.

    Paper: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, https://arxiv.org/abs/1708.02002

    Args:
        gamma: How much less rows count that are predicted well; 0 is cross-entropy.
    """

    def __init__(self, gamma: NonNegativeFloat = 2.0) -> None:
        self._gamma = gamma

    def __call__(self, raw: Tensor, targets: Tensor, reduction: str) -> Tensor:
        logs = raw.log_softmax(1)
        losses = -((-logs.expm1()).clamp(min=_LOWEST_FACTOR) ** self._gamma) * logs
        each = losses.gather(1, targets[:, None]).squeeze(1) if targets.dim() == 1 else (targets * losses).sum(1)
        return _reduced(each, reduction)


@final
class BinaryCrossEntropy(Loss):
    """Cross-entropy of the sigmoid, label by label."""

    def __call__(self, raw: Tensor, targets: Tensor, reduction: str) -> Tensor:
        return functional.binary_cross_entropy_with_logits(raw, targets, reduction=reduction)


@final
class BinaryFocal(Loss):
    """Focal loss of the sigmoid, label by label: cross-entropy times (1 - p) ** gamma.

    Paper: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, https://arxiv.org/abs/1708.02002

    Args:
        gamma: How much less labels count that are predicted well; 0 is cross-entropy.
    """

    def __init__(self, gamma: NonNegativeFloat = 2.0) -> None:
        self._gamma = gamma

    def __call__(self, raw: Tensor, targets: Tensor, reduction: str) -> Tensor:
        # -log p and -log(1 - p) are softpluses of the logit, so (1 - p) ** gamma is an exponential of one.
        present, absent = functional.softplus(-raw), functional.softplus(raw)
        each = targets * (-self._gamma * absent).exp() * present
        return _reduced(each + (1 - targets) * (-self._gamma * present).exp() * absent, reduction)


@final
class Corn(Loss):
    """Negative log likelihood of the label that CORN's steps lead to, see ``ordinal``.

    Paper: Shi, Cao & Raschka, Rank-Consistent Ordinal Regression Based on Conditional Probabilities, 2021,
    https://arxiv.org/abs/2111.08851
    """

    def __call__(self, raw: Tensor, targets: Tensor, reduction: str) -> Tensor:
        logs = log_probabilities(raw)
        if targets.dim() == 1:
            return functional.nll_loss(logs, targets, reduction=reduction)
        return _reduced(-(targets * logs).sum(1), reduction)


@final
class SquaredError(Loss):
    """Squared error."""

    def __call__(self, raw: Tensor, targets: Tensor, reduction: str) -> Tensor:
        return functional.mse_loss(raw, targets, reduction=reduction)


@final
class AbsoluteError(Loss):
    """Absolute error."""

    def __call__(self, raw: Tensor, targets: Tensor, reduction: str) -> Tensor:
        return functional.l1_loss(raw, targets, reduction=reduction)


@final
class Huber(Loss):
    """Huber's loss: half the squared error up to one standard deviation, and linear beyond."""

    def __call__(self, raw: Tensor, targets: Tensor, reduction: str) -> Tensor:
        return functional.huber_loss(raw, targets, reduction=reduction)


@final
class Poisson(Loss):
    """Negative log likelihood of Poisson counts, without what does not depend on the log rate."""

    def __call__(self, raw: Tensor, targets: Tensor, reduction: str) -> Tensor:
        return functional.poisson_nll_loss(raw, targets, log_input=True, reduction=reduction)


def _reduced(each: Tensor, reduction: str) -> Tensor:
    return each.sum() if reduction == "sum" else each
