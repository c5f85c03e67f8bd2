"""Decays: the learning rate over the steps of a stage, as a factor of its peak.

A schedule's ``decay`` component constructs one; the training loop asks it at every step.
"""

from abc import ABC, abstractmethod
from math import cos, pi
from typing import final

from mtl_search.recipe import Fraction


class Decay(ABC):
    """A curve from warm-up to the end of a stage; the constructor's signature is its schema in the study file.

    Args:
        warmup: Share of the steps in which the factor rises in a line to 1.
    """

    def __init__(self, warmup: float) -> None:
        self.warmup = warmup

    @final
    def factor(self, step: int, steps: int) -> float:
        """Factor of the peak learning rate.

        Args:
            step: The step about to be made, from 0; ``steps`` itself gives the end of the curve.
            steps: Steps of the whole stage.

        Returns:
            A number in [0, 1] that depends on the arguments alone.

        Raises:
            ValueError: The step is outside the stage.
        """
        if not 0 <= step <= steps:
            raise ValueError(f"step must be from 0 to {steps}, got {step}")
        warm = round(self.warmup * steps)
        if step < warm:
            return (step + 1) / warm
        return self._after_warmup((step - warm) / max(1, steps - warm))

    @abstractmethod
    def _after_warmup(self, progress: float) -> float:
        """Factor in [0, 1] at this share of the steps after warm-up, from 0 to 1."""


class Constant(Decay):
    """The peak learning rate to the end.

    Args:
        warmup: Share of the steps in which the factor rises in a line to 1.
    """

    def __init__(self, warmup: Fraction = 0.0) -> None:
        super().__init__(warmup)

    def _after_warmup(self, progress: float) -> float:
        return 1.0


class Falling(Decay):
    """A curve from the peak down to a floor.

    Args:
        warmup: Share of the steps in which the factor rises in a line to 1.
        floor: Factor at the end.
    """

    def __init__(self, warmup: Fraction = 0.0, floor: Fraction = 0.0) -> None:
        super().__init__(warmup)
        self.floor = floor

    @final
    def _after_warmup(self, progress: float) -> float:
        return self.floor + (1 - self.floor) * self._left(progress)

    @abstractmethod
    def _left(self, progress: float) -> float:
        """How much of the way from floor to peak is left, from 1 to 0."""


class Cosine(Falling):
    """Half a cosine from the peak down to the floor.

    Paper: Loshchilov and Hutter, SGDR, ICLR 2017, https://arxiv.org/abs/1608.03983

    Args:
        warmup: Share of the steps in which the factor rises in a line to 1.
        floor: Factor at the end.
    """

    def _left(self, progress: float) -> float:
        return (1 + cos(pi * progress)) / 2


class Linear(Falling):
    """A line from the peak down to the floor.

    Args:
        warmup: Share of the steps in which the factor rises in a line to 1.
        floor: Factor at the end.
    """

    def _left(self, progress: float) -> float:
        return 1 - progress
