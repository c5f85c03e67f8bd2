"""Stch: the largest loss counts most, smoothly."""

from typing import TYPE_CHECKING

from mtl_search.recipe import PositiveFloat
from mtl_search.weighting.scalarized import Scalarized

if TYPE_CHECKING:
    from torchjd.scalarization import Scalarizer


class Stch(Scalarized):
    """Smooth Tchebycheff: w_i proportional to exp(L_i / (K mu)), with mean 1.

    Paper: Lin et al., Smooth Tchebycheff Scalarization for Multi-Objective Optimization, ICML 2024, https://arxiv.org/abs/2402.19078

    Args:
        mu: Smoothing, in units of the mean loss; towards 0 only the largest loss counts.
    """

    def __init__(self, mu: PositiveFloat = 0.1) -> None:
        self.mu = mu

    def _scalarizer(self) -> "Scalarizer":
        from torchjd.scalarization import STCH

        return STCH(self.mu)

    def _scale(self, count: int) -> float:
        return float(count**2)  # torchjd gives every loss the preference 1 / K, by which the derivative is smaller too
