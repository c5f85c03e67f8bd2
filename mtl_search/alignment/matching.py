"""Matching: alignment by a distance between the data sets' rows, the same on any number of workers.

What ``coral`` and ``mmd`` have in common: both are squared distances of means under some kernel.
"""

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from mtl_search.models.aligner import Aligner, Meeting
from mtl_search.models.passing import Passing

Distance = Callable[[Tensor, Sequence[int]], Tensor]
"""Of rows (n, features), those of one data set after the other, and the rows of each data set: a scalar."""


@final
class Matching(Aligner):
    """Adds ``strength`` times a distance at every meeting; no parameters.

    Args:
        distance: Mean distance between the data sets of a meeting.
        strength: Its factor.
    """

    def __init__(self, distance: Distance, strength: float) -> None:
        super().__init__()
        self._distance, self._strength = distance, strength

    def forward(self, meetings: Sequence[Meeting], passing: Passing) -> None:
        for meeting in meetings:
            rows, sizes = gathered(meeting, passing)
            if sum(size > 0 for size in sizes) < 2:
                continue
            with torch.autocast(rows.device.type, enabled=False):
                whole = self._strength * self._distance(rows, [size for size in sizes if size])
            # Every rank has the whole value and the gradient of its own rows: of the value it gives its part alone.
            passing.penalise(whole - whole.detach() * (1 - 1 / passing.ranks))


def gathered(meeting: Meeting, passing: Passing) -> tuple[Tensor, tuple[int, ...]]:
    """The rows of all ranks at a meeting, in the order in which one process has them.

    Args:
        meeting: This rank's.
        passing: Its ``global_rows`` and ``starts`` say where this rank's rows belong.

    Returns:
        Rows (n, features), this rank's own with their gradient and the others' without; and the rows of each data set.
    """
    if passing.ranks == 1:
        return meeting.rows, meeting.sizes
    sizes = tuple(passing.global_rows[dataset] for dataset in meeting.datasets)
    starts = [passing.starts[dataset] for dataset in meeting.datasets]
    own = torch.split(meeting.rows, list(meeting.sizes))
    whole = meeting.rows.new_zeros(sum(sizes), meeting.rows.shape[1])
    for part, mine, start in zip(torch.split(whole, list(sizes)), own, starts, strict=True):
        part[start : start + len(mine)] = mine.detach()
    pieces = [
        piece
        for part, mine, start in zip(torch.split(passing.sum(whole), list(sizes)), own, starts, strict=True)
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
