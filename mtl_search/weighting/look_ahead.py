"""LookAhead: weights learned from what an update by them would do to the losses on rows kept for that.

The step keeps those rows, takes the look-ahead step and measures; the weighting learns from the derivative.
"""

from abc import abstractmethod

from torch import Tensor

from mtl_search.weighting.base import Weighting


class LookAhead(Weighting):
    """Weights with a derivative of their own: of the primary tasks' losses on kept rows, after one update.

    Attributes:
        primary: Indices of the tasks whose losses count, after ``start``.
        holdout: Share of the training split kept for measuring, above 0 and below 1.
    """

    primary: tuple[int, ...] = ()
    holdout: float

    @abstractmethod
    def learn(self, derivative: Tensor) -> None:
        """Take one step on the weights.

        Args:
            derivative: Of the sum of the primary tasks' losses on kept rows, after an update by the weights that the
                last call gave, with respect to each weight, (K,); the same on every rank.

        Raises:
            ValueError: There is not one entry per started task.
        """
