"""Scored: an average with coefficients from what fine-tuning gained on validation."""

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor

from mtl_search.fusion.base import Fusion, Site, mean_tensors
from mtl_search.fusion.weighted import Weighted
from mtl_search.recipe import PositiveFloat

_LEAST = 1e-6


@final
class Scored(Fusion):
    """Weighted average by validation: a model counts by how far fine-tuning took its task, to the power of ``power``.

    The gain of a task is the improvement of its main metric on validation from the base with a fresh head to the best
    epoch, relative to the former. Validation rows decide here as they decide which epoch is the best.

    Args:
        power: 1 in proportion to the gains; larger values favour tasks that gained much.
    """

    def __init__(self, power: PositiveFloat = 1.0) -> None:
        self.power = power

    def by(self, gains: Mapping[str, float]) -> Fusion:
        """The weighted average for these gains.

        Args:
            gains: By task; those that are not positive count next to nothing.
        """
        return Weighted({task: max(gain, _LEAST) ** self.power for task, gain in gains.items()})

    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor, at: Site) -> Tensor:
        return mean_tensors(values)  # nothing is known of the models
