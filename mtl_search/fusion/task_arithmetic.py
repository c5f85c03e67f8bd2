"""Task arithmetic: what fine-tuning changed, added up over the tasks."""

from collections.abc import Sequence

from torch import Tensor

from mtl_search.fusion.base import Fusion, Site, add_tensors
from mtl_search.fusion.mean import Mean
from mtl_search.recipe import PositiveFloat
from mtl_search.variants.building import Equal


class TaskArithmetic(Fusion):
    """Task arithmetic: base + scale * sum of the task vectors theta_t - base.

    ``scale`` 1/N is the plain average of N tasks.

    Paper: Ilharco et al., Editing Models with Task Arithmetic, ICLR 2023, https://arxiv.org/abs/2212.04089

    Args:
        scale: Factor of the sum of task vectors (lambda in the paper, which finds 0.3 to 0.5 for many tasks).
    """

    def __init__(self, scale: PositiveFloat = 0.4) -> None:
        self.scale = scale

    def simpler(self, groups: Sequence[Sequence[str]]) -> Equal[Fusion] | None:
        """The plain average, where the scale is one over the number of tasks in each group."""
        return (Mean, {}) if all(self.scale == 1 / len(tasks) for tasks in groups) else None

    def _fuse(self, values: list[Tensor], tasks: Sequence[str], base: Tensor, at: Site) -> Tensor:
        return base + self.scale * add_tensors([value - base for value in values])
