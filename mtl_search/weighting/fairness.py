"""Fair weights: the positive solution of G w = w^(-1 / alpha), which Nash-MTL (alpha 1) and FairGrad ask for.

It is the minimum of a strictly convex function, so Newton's method finds it in a handful of steps. torchjd solves the
same equations by a sequence of cone programs and by least squares: up to 200 times slower at 8 tasks, which would make
the methods cost a multiple of the training step that they balance.
"""

import numpy as np
import torch
from torch import Tensor

_RIDGE = 1e-10
"""Added to the diagonal: where a mixture of the gradients is 0, the solution would be infinite."""
_MOST_STEPS = 100
_DONE = 1e-20


def fair_weights(gramian: Tensor, alpha: float) -> Tensor:
    """Weights w > 0 with (G w)_i = w_i^(-1 / alpha).

    Minimises w' G w / 2 - sum_i phi(w_i) with phi'(w) = w^(-1 / alpha), by damped Newton steps that stay positive.

    Args:
        gramian: G (n, n), positive semidefinite with mean diagonal 1, float64.
        alpha: Above 0.

    Returns:
        w (n,), float64.
    """
    power = 1 / alpha
    matrix = gramian.numpy() + _RIDGE * np.eye(len(gramian))
    weights = matrix.diagonal() ** (-alpha / (alpha + 1))  # the solution for orthogonal gradients

    def value(w: np.ndarray) -> float:
        gain = np.log(w).sum() if power == 1 else (w ** (1 - power)).sum() / (1 - power)
        return float(w @ matrix @ w / 2 - gain)

    for _ in range(_MOST_STEPS):
        slope = matrix @ weights - weights**-power
        curvature = matrix + np.diag(power * weights ** (-power - 1))
        step = -np.linalg.solve(curvature, slope)
        decrease = -float(slope @ step)
        if decrease < _DONE:
            break
        length = min([1.0, *(0.95 * weights[step < 0] / -step[step < 0])])
        before = value(weights)
        while value(weights + length * step) > before - 0.1 * length * decrease and length > 1e-10:
            length /= 2
        weights = weights + length * step
    return torch.from_numpy(weights)
