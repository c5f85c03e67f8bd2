"""NashMtl: the bargain that the tasks would strike about the update."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mtl_search.recipe import PositiveInt
from mtl_search.weighting.gramian import At, GramianWeighting
from mtl_search.weighting.memory import check_state
from mtl_search.weighting.solvers import require

if TYPE_CHECKING:
    from torchjd.aggregation import NashMTL


class NashMtl(GramianWeighting):
    """Nash-MTL: weights w with (G w)_i = 1 / w_i, the Nash bargaining solution.

    Each step's solution starts from the last. The paper's limit on the update's length is left out: clipping is the
    schedule's (``clip_norm``). Needs the extra ``solvers``.

    Paper: Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022, https://arxiv.org/abs/2202.01017

    Args:
        update_weights_every: Steps between two solutions; in between the weights stay.
        iterations: Largest number of convex problems solved for one solution.
        at: Where the tasks' gradients are taken; "auto" for the cheapest place that fits.

    Raises:
        ConfigError: The solver is not installed.
    """

    def __init__(self, update_weights_every: PositiveInt = 1, iterations: PositiveInt = 20, at: At = "auto") -> None:
        super().__init__(at)
        require("nash_mtl", "cvxpy", "ecos")
        self.update_weights_every = update_weights_every
        self.iterations = iterations

    def _start(self, tasks: tuple[str, ...], device: torch.device, seed: int) -> None:
        self._last = torch.ones(len(tasks), dtype=torch.float64)
        self._step = 0
        self._bargains: dict[int, NashMTL] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"last": self._last.clone(), "step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(self, state)
        self._last = state["last"].cpu().clone()
        self._step = state["step"]

    def _balance(self, gramian: Tensor, tasks: Tensor) -> Tensor:
        if self._step % self.update_weights_every == 0:
            self._last[tasks] = self._solve(gramian, self._last[tasks])
        self._step += 1
        return self._last[tasks].clone()

    def _solve(self, gramian: Tensor, start: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(gramian)
        gradients = vectors * values.clamp(min=0).sqrt()  # torchjd takes gradients, any with these inner products do
        bargain = self._bargain(len(gramian)).weighting
        bargain.prvs_alpha = start.numpy()
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an inaccurate solution is the next one's start
            found: Tensor = bargain(gradients)
        return found

    def _bargain(self, count: int) -> "NashMTL":
        """The object for that many tasks: it keeps the problem that the solver compiled."""
        from torchjd.aggregation import NashMTL

        if count not in self._bargains:
            self._bargains[count] = NashMTL(count, max_norm=0.0, optim_niter=self.iterations)
        return self._bargains[count]
