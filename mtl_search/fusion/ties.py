"""Ties: task vectors trimmed to their largest changes, which then agree on a sign."""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch import Tensor

from mtl_search.fusion.base import Fusion, Site, add_tensors
from mtl_search.recipe import PositiveFloat


class Ties(Fusion):
    """TIES: trim every task vector, elect a sign per parameter, average the values of that sign.

    Trimming keeps the largest changes by size of each *tensor* (the paper ranks all parameters of a model together:
    that would need whole models in memory, and would weigh blocks of different scale against each other). The elected
    sign is that of the sum of the trimmed task vectors; the mean is over the tasks whose trimmed value has it. Where
    the sum is 0 the base stays.

    Paper: Yadav et al., TIES-Merging: Resolving Interference When Merging Models, NeurIPS 2023, https://arxiv.org/abs/2306.01708

    Args:
        keep: Share of every tensor's changes that is kept; at least one.
        scale: Factor of the merged task vector (lambda in the paper).
    """

    def __init__(self, keep: Annotated[float, Gt(0), Le(1)] = 0.2, scale: PositiveFloat = 1.0) -> None:
        self.keep = keep
        self.scale = scale

    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor, at: Site) -> Tensor:
        vectors = [trim_changes(value - base, self.keep) for value in values]
        sign = add_tensors(vectors).sign()
        agreeing = [torch.where(vector.sign() == sign, vector, 0.0) for vector in vectors]
        count = add_tensors([(vector != 0).to(base.dtype) for vector in agreeing])
        return base + self.scale * add_tensors(agreeing) / count.clamp(min=1)


def trim_changes(vector: Tensor, keep: float) -> Tensor:
    """A task vector with all but its largest entries by size set to 0.

    Args:
        vector: Any shape.
        keep: Share of the entries to keep, at least one; entries as large as the smallest of those stay too.
    """
    if not vector.numel():
        return vector
    sizes = vector.abs()
    cut = vector.numel() - max(1, round(keep * vector.numel())) + 1
    return torch.where(sizes >= sizes.flatten().kthvalue(cut).values, vector, 0.0)
