"""Optimizers: torch's, with their parameters as schema.

A schedule's ``optimizer`` component constructs one; the training loop builds the torch optimiser at a stage's start and
multiplies ``lr`` by the decay's factor at every step.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, final

import torch
from torch import nn

from mtl_search.errors import ConfigError, Problem
from mtl_search.recipe import NonNegativeFloat, PositiveFloat, ProperFraction

_FUSED_DEVICES = {"cpu", "cuda", "mps", "xpu"}


class Optimizer(ABC):
    """An optimiser to be built; the constructor's signature is its schema in the study file.

    Attributes:
        lr: Peak learning rate.
        scale_free: Whether a constant factor on all gradients of a parameter leaves its updates as they are, but for
            gradients so small that what keeps the method from dividing by 0 counts.
    """

    lr: float
    scale_free: ClassVar[bool] = False

    @final
    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimiser for these parameters, fused into one kernel where their device has it.

        Args:
            params: Parameters to train.

        Raises:
            ValueError: There are none.
        """
        listed = list(params)
        if not listed:
            raise ValueError("an optimiser needs at least one parameter")
        fused = all(p.device.type in _FUSED_DEVICES and p.is_floating_point() for p in listed)
        return self._build(listed, fused)

    @abstractmethod
    def _build(self, params: list[nn.Parameter], fused: bool) -> torch.optim.Optimizer:
        """Build for a list that is not empty."""


class AdamW(Optimizer):
    """Adam with decoupled weight decay.

    Paper: Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019, https://arxiv.org/abs/1711.05101

    Args:
        lr: Peak learning rate.
        weight_decay: Share of a parameter taken off per step and unit of learning rate.
        beta1: Decay of the running mean of gradients.
        beta2: Decay of the running mean of squared gradients.
    """

    scale_free = True

    def __init__(
        self,
        lr: PositiveFloat = 1e-3,
        weight_decay: NonNegativeFloat = 0.01,
        beta1: ProperFraction = 0.9,
        beta2: ProperFraction = 0.999,
    ) -> None:
        self.lr = lr
        self.weight_decay = weight_decay
        self.betas = (beta1, beta2)

    def _build(self, params: list[nn.Parameter], fused: bool) -> torch.optim.Optimizer:
        return torch.optim.AdamW(params, self.lr, self.betas, weight_decay=self.weight_decay, fused=fused)


class Sgd(Optimizer):
    """Stochastic gradient descent with momentum.

    Paper: Sutskever et al., Initialization and Momentum, ICML 2013, https://proceedings.mlr.press/v28/sutskever13.html

    Args:
        lr: Peak learning rate.
        momentum: Share of the last update kept.
        weight_decay: L2 penalty, added to the gradient.
        nesterov: Whether the gradient is taken after the momentum's step.

    Raises:
        ConfigError: ``nesterov`` without momentum.
    """

    def __init__(
        self,
        lr: PositiveFloat = 0.1,
        momentum: ProperFraction = 0.9,
        weight_decay: NonNegativeFloat = 0.0,
        nesterov: bool = False,
    ) -> None:
        if nesterov and not momentum:
            raise ConfigError([Problem("optimizer.sgd.momentum", "must be above 0 with nesterov", momentum)])
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.nesterov = nesterov

    def _build(self, params: list[nn.Parameter], fused: bool) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            params, self.lr, self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov, fused=fused
        )
