"""UpGrad: every gradient projected to where it hurts no task, then the sum."""

import torch
from torch import Tensor

from mtl_search.weighting.gramian import At, GramianWeighting
from mtl_search.weighting.solvers import require

_REGULARISATION = 1e-8


class UpGrad(GramianWeighting):
    """UPGrad: each gradient is projected onto the directions along which no task's loss rises; then the sum.

    Needs the extra ``solvers``.

    Paper: Quinton and Rey, Jacobian Descent for Multi-Objective Optimization, arXiv 2024, https://arxiv.org/abs/2406.16232

    Args:
        at: Where the tasks' gradients are taken; "auto" for the cheapest place that fits.

    Raises:
        ConfigError: The solver is not installed.
    """

    def __init__(self, at: At = "auto") -> None:
        super().__init__(at)
        require("upgrad", "qpsolvers", "quadprog")

    def _balance(self, gramian: Tensor, tasks: Tensor) -> Tensor:
        from torchjd.aggregation import UPGradWeighting
        from torchjd.linalg import QuadprogProjector

        # The solver needs a positive definite matrix. torchjd adds 1e-4 of the sum of squared lengths, which lets the
        # projections hurt tasks with short gradients; in float64 less will do, beyond what rounding took off.
        count = len(gramian)
        rounding = torch.linalg.eigvalsh(gramian)[0].clamp(max=0)
        weighting = UPGradWeighting(projector=QuadprogProjector(reg_eps=_REGULARISATION))
        return count * weighting(gramian - rounding * torch.eye(count))
