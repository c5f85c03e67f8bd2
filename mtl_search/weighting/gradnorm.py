"""GradNorm: weighted gradients of equal length, longer for tasks that learn slowly."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mtl_search.recipe import NonNegativeFloat, PositiveFloat
from mtl_search.weighting.gramian import At
from mtl_search.weighting.memory import LearnedWeights
from mtl_search.weighting.presence import bounded, zero_absent

_LEAST = 1e-4


def norm_loss_derivative(weights: Tensor, norms: Tensor, progress: Tensor, alpha: float) -> Tensor:
    """Derivative of GradNorm's loss, sum |w_i n_i - target_i|, by the weights; the targets are constants in it.

    Args:
        weights: (n,).
        norms: Lengths n_i of the unweighted gradients, (n,).
        progress: Loss of each task over its first one, (n,).
        alpha: How much longer the gradient of a slow task is to be.
    """
    weighted = weights * norms
    target = weighted.mean() * (progress / progress.mean()) ** alpha
    return (weighted - target).sign() * norms


class GradNorm(LearnedWeights):
    """GradNorm: learned weights that bring the lengths of the weighted gradients together; a slow task's may be longer.

    Needs the lengths of the gradients only. Weights are 1 at the start and have mean 1; a task's first loss is that of
    the first batch with a label for it.

    Paper: Chen et al., GradNorm: Gradient Normalization for Adaptive Loss Balancing, ICML 2018, https://arxiv.org/abs/1711.02257

    Args:
        alpha: Strength of the pull towards equal training rates; 0 for equal lengths.
        lr: Learning rate of the weights (Adam).
        at: Where the tasks' gradients are taken; "auto" for the cheapest place that fits.
    """

    places = ("representation", "shared")

    def __init__(self, alpha: NonNegativeFloat = 1.5, lr: PositiveFloat = 0.025, at: At = "auto") -> None:
        self.alpha = alpha
        self.lr = lr
        self.at = at

    def _start(self, tasks: tuple[str, ...], device: torch.device, seed: int) -> None:
        self._begin_with(nn.Parameter(torch.ones(len(tasks), dtype=torch.float64)))
        self._first = torch.full((len(tasks),), torch.nan, dtype=torch.float64)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "first": self._first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._first = state["first"].cpu()

    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        assert gramian is not None, "the base has checked it"
        here = torch.ones(len(losses), dtype=torch.bool) if present is None else present
        now = bounded(losses.cpu())
        self._first = torch.where(here & self._first.isnan(), now, self._first)
        weights = self._learned.detach().clone()
        norms = gramian.diagonal().to("cpu", torch.float64).clamp(min=0).sqrt()
        if bool(norms[here].isfinite().all()):
            self._learn(norms, now / self._first, here)
        return zero_absent(weights, present, losses)

    def _learn(self, norms: Tensor, progress: Tensor, here: Tensor) -> None:
        total = self._learned[here].sum()
        slope = torch.zeros_like(norms)
        slope[here] = norm_loss_derivative(self._learned[here], norms[here], progress[here], self.alpha)
        self._learned.grad = slope
        with self._held(here):
            self._optimizer.step()
            self._learned.clamp_(min=_LEAST)
            self._learned.mul_(total / self._learned[here].sum())
