"""How source tasks take part in joint training: a recipe's ``auxiliary`` component.

lambda_source L_source + lambda_target L_target: source tasks count in the loss with a weight that is not balanced
with those of the target tasks, and never in the objective.
"""

from abc import ABC, abstractmethod

from mtl_search.recipe import PositiveFloat


class Auxiliary(ABC):
    """A weight of the source tasks over joint training; the constructor's signature is its schema in the study file.

    Attributes:
        trains: Whether source tasks take part at all.
    """

    trains: bool = True

    @abstractmethod
    def weight(self, progress: float) -> float:
        """Weight of every source task's loss.

        Args:
            progress: Share of the stage's steps that are done, in [0, 1).
        """


class NoAuxiliary(Auxiliary):
    """Joint training is on the target tasks alone."""

    trains = False

    def weight(self, progress: float) -> float:
        return 0.0


class ConstantAuxiliary(Auxiliary):
    """Source tasks count with the same weight to the end.

    Args:
        weight: Of every source task's loss; a target task's is 1 with equal weights.
    """

    def __init__(self, weight: PositiveFloat = 0.3) -> None:
        self._weight = weight

    def weight(self, progress: float) -> float:
        return self._weight


class LinearAuxiliary(Auxiliary):
    """Source tasks help at the start: their weight falls in a line to 0.

    Args:
        weight: Of every source task's loss at the start; a target task's is 1 with equal weights.
    """

    def __init__(self, weight: PositiveFloat = 1.0) -> None:
        self._weight = weight

    def weight(self, progress: float) -> float:
        return self._weight * (1 - progress)
