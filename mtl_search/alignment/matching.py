"""Matching: alignment by a distance between the data sets' rows, the same on any number of workers.

What ``coral`` and ``mmd`` have in common: both are squared distances of means under some kernel.
"""

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from mtl_search.models.alignment_point import AlignmentModule, AlignmentPoint
from mtl_search.models.forward_context import ForwardContext

Distance = Callable[[Tensor, Sequence[int]], Tensor]
"""Of rows (n, features), those of one data set after the other, and the rows of each data set: a scalar."""


@final
class Matching(AlignmentModule):
    """Adds ``strength`` times a distance at every alignment point; no parameters.

    Args:
        distance: Mean distance between the data sets of a alignment point.
        strength: Its factor.
    """

    def __init__(self, distance: Distance, strength: float) -> None:
        super().__init__()
        self._distance, self._strength = distance, strength

    def forward(self, alignment_points: Sequence[AlignmentPoint], context: ForwardContext) -> None:
        for alignment_point in alignment_points:
            rows, sizes = gather_features(alignment_point, context)
            if sum(size > 0 for size in sizes) < 2:
                continue
            with torch.autocast(rows.device.type, enabled=False):
                whole = self._strength * self._distance(rows, [size for size in sizes if size])
            # Every rank has the whole value and the gradient of its own rows: of the value it gives its part alone.
            context.penalise(whole - whole.detach() * (1 - 1 / context.ranks))


def gather_features(alignment_point: AlignmentPoint, context: ForwardContext) -> tuple[Tensor, tuple[int, ...]]:
    """The rows of all ranks at a alignment point, in the order in which one process has them.

    Args:
        alignment_point: This rank's.
        context: Its ``global_rows`` and ``starts`` say where this rank's rows belong.

    Returns:
        Rows (n, features), this rank's own with their gradient and the others' without; and the rows of each data set.
    """
    if context.ranks == 1:
        return alignment_point.rows, alignment_point.sizes
    sizes = tuple(context.global_rows[dataset] for dataset in alignment_point.datasets)
    starts = [context.starts[dataset] for dataset in alignment_point.datasets]
    own = torch.split(alignment_point.rows, list(alignment_point.sizes))
    whole = alignment_point.rows.new_zeros(sum(sizes), alignment_point.rows.shape[1])
    for part, mine, start in zip(torch.split(whole, list(sizes)), own, starts, strict=True):
        part[start : start + len(mine)] = mine.detach()
    pieces = [
        piece
        for part, mine, start in zip(torch.split(context.sum(whole), list(sizes)), own, starts, strict=True)
        for piece in (part[:start], mine, part[start + len(mine) :])
    ]
    return torch.cat(pieces), sizes


def mean_distance(kernel: Tensor, sizes: Sequence[int]) -> Tensor:
    """Mean over all pairs of data sets of E k(x, x') + E k(y, y') - 2 E k(x, y).

    The means run over all pairs of rows, a row with itself included: the biased estimate, 0 for equal samples and never
    negative but for rounding.

    Args:
        kernel: (n, n) symmetric and positive semi-definite, the rows of the data sets one after the other.
        sizes: Rows of each data set, two or more, none of them 0.

    Returns:
        A scalar.
    """
    columns = torch.stack([part.mean(1) for part in torch.split(kernel, list(sizes), 1)], 1)
    means = torch.stack([part.mean(0) for part in torch.split(columns, list(sizes))])
    count = len(sizes)
    return 2 * (count * means.trace() - means.sum()) / (count * (count - 1))
