"""Slerp: the way from one model to another along a great circle, for two tasks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl_search.errors import ConfigError, Problem
from mtl_search.fusion.base import Fusion, Site, weighted_sum
from mtl_search.fusion.coefficients import Coefficients
from mtl_search.recipe import PerTask
from mtl_search.variants.building import Equal

_STRAIGHT = 1e-6
"""Smallest sine of the angle between two tensors at which their circle is told from a line."""


class Slerp(Fusion):
    """Spherical linear interpolation between two models, tensor by tensor.

    With shares p + q = 1 and the angle w between the two tensors as vectors it is (sin(p w) a + sin(q w) b) / sin(w),
    which keeps the length where an average shortens it. (Anti)parallel tensors and zeros have no one circle through
    them: there it is the average p a + q b.

    Paper: Shoemake, Animating Rotation with Quaternion Curves, SIGGRAPH 1985, https://doi.org/10.1145/325334.325242

    Args:
        coefficients: What each of the two tasks counts, as those of ``weighted``.

    Raises:
        ConfigError: A coefficient is negative or no number.
    """

    def __init__(self, coefficients: PerTask = 1.0) -> None:
        self.coefficients = Coefficients(coefficients, "fusion.slerp.coefficients")

    def check(self, tasks: Sequence[str]) -> None:
        """Whether there are two tasks, and every coefficient belongs to one of them.

        Raises:
            ConfigError: That is not so.
        """
        if len(tasks) != 2:
            raise ConfigError([Problem("fusion.slerp", "goes from one task to another: needs two tasks", len(tasks))])
        self.coefficients.check(tasks)

    def simpler(self, groups: Sequence[Sequence[str]]) -> Equal[Fusion] | None:
        """The same without coefficients, where the tasks of each group count alike."""
        return (Slerp, {}) if self.coefficients.even(groups) else None

    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor, at: Site) -> Tensor:
        self.check(tasks)
        shares = self.coefficients.of(tasks)
        one, other = (value / norm if (norm := value.norm()) else value for value in values)
        # The angle by its half's sine and cosine: an arc cosine loses small angles to rounding.
        angle = 2 * torch.atan2((one - other).norm(), (one + other).norm())
        if angle.sin() < _STRAIGHT or not one.any() or not other.any():
            return weighted_sum(values, shares)
        return weighted_sum(values, [float((share * angle).sin() / angle.sin()) for share in shares])
