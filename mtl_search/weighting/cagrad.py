"""CaGrad: near the mean gradient, the update that helps the worst-off task most."""

import numpy as np
import torch
from torch import Tensor

from mtl_search.recipe import ProperFraction
from mtl_search.weighting.gramian import At, GramianWeighting
from mtl_search.weighting.solvers import require

_STATIONARY = 1e-4
"""Length of a mixture of gradients, relative to all of them together, that counts as 0."""


class CaGrad(GramianWeighting):
    """CAGrad: the update in a ball around the mean gradient that improves the least improved task most.

    At a point where some mixture of the gradients is 0, all weights are 0. Needs the extra ``solvers``.

    Paper: Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning, NeurIPS 2021, https://arxiv.org/abs/2110.14048

    Args:
        c: Radius of the ball over the length of the mean gradient; 0 for the mean itself.
        at: Where the tasks' gradients are taken; "auto" for the cheapest place that fits.

    Raises:
        ConfigError: The solver is not installed.
    """

    def __init__(self, c: ProperFraction = 0.4, at: At = "auto") -> None:
        super().__init__(at)
        require("cagrad", "clarabel")
        self.c = c

    def _balance(self, gramian: Tensor, tasks: Tensor) -> Tensor:
        count = len(gramian)
        matrix = gramian.numpy() / count  # trace 1
        values, vectors = np.linalg.eigh(matrix)
        roots = (vectors * np.sqrt(values.clip(min=0))).T  # |roots w|^2 = w' G w
        mean = roots.mean(1)
        radius = self.c * float(np.linalg.norm(mean))
        chosen = _worst_mixture(roots, roots.T @ mean, radius)
        length = float(np.linalg.norm(roots @ chosen))
        if length < _STATIONARY:
            return torch.zeros(count, dtype=torch.float64)
        return torch.from_numpy(1 + count * radius / length * chosen)


def _worst_mixture(roots: np.ndarray, slope: np.ndarray, radius: float) -> np.ndarray:
    """The weights w >= 0 of sum 1 (n,) that minimise slope' w + radius |roots w|, a second-order cone program.

    torchjd states the same through cvxpy, which compiles the problem anew at every step, for ten times as long as it
    takes to solve.
    """
    import clarabel
    from scipy import sparse

    count = len(slope)
    # Unknowns (w, t) with |roots w| <= t; rows: sum of w is 1, w >= 0, (t, roots w) in the cone.
    constraints = np.zeros((2 * count + 2, count + 1))
    constraints[0, :count] = 1
    constraints[1 : count + 1, :count] = -np.eye(count)
    constraints[count + 1, count] = -1
    constraints[count + 2 :, :count] = -roots
    bounds = np.zeros(2 * count + 2)
    bounds[0] = 1
    cones = [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(count), clarabel.SecondOrderConeT(count + 1)]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    nothing = sparse.csc_matrix((count + 1, count + 1))
    costs = np.append(slope, radius)
    solver = clarabel.DefaultSolver(nothing, costs, sparse.csc_matrix(constraints), bounds, cones, settings)
    return np.array(solver.solve().x[:count]).clip(min=0)
