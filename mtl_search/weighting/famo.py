"""Famo: all losses fall at about the same rate, at the cost of plain training."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtl_search.recipe import NonNegativeFloat, PositiveFloat
from mtl_search.weighting.memory import LearnedWeights
from mtl_search.weighting.presence import bounded, zero_absent
from mtl_search.weighting.scalarized import derivative

_EPSILON = 1e-8
"""torchjd adds it to a loss before the logarithm."""


class Famo(LearnedWeights):
    """FAMO: w_i proportional to softmax(x)_i / L_i, with mean 1; x learns to favour the task that improved least.

    The paper measures an update's effect by a second forward pass over the same batch. Here the losses of the next
    batch stand for it: the difference between batches adds noise, with mean zero, to what x learns from, and no pass
    is needed. A task absent from a batch keeps its x and its last loss; its next one is compared with that.

    Paper: Liu et al., FAMO: Fast Adaptive Multitask Optimization, NeurIPS 2023, https://arxiv.org/abs/2306.03792

    Args:
        lr: Learning rate of x (Adam).
        weight_decay: Pulls x towards equal weights.
    """

    def __init__(self, lr: PositiveFloat = 0.025, weight_decay: NonNegativeFloat = 1e-3) -> None:
        self.lr = lr
        self.weight_decay = weight_decay

    def _start(self, tasks: tuple[str, ...], device: torch.device, seed: int) -> None:
        from torchjd.scalarization import FAMO

        count = len(tasks)
        self._famo = FAMO(count, lr=self.lr, weight_decay=self.weight_decay).to(device, torch.float64)
        (learned,) = self._famo.parameters()
        self._begin_with(learned)
        self._before = torch.ones(count, dtype=torch.float64, device=device)
        self._seen = torch.zeros(count, dtype=torch.bool)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "before": self._before, "seen": self._seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._before = state["before"].to(self._before.device)
        self._seen = state["seen"].cpu()

    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        now = bounded(losses)
        here = torch.ones_like(self._seen) if present is None else present
        known = here & self._seen
        if bool(known.any()):
            self._learn(now, known)
        self._before = now if present is None else torch.where(here.to(now.device), now, self._before)
        self._seen = self._seen | here
        weights = zero_absent(derivative(self._famo, self._before), present, now)
        return (weights * (int(here.sum()) / weights.sum())).to(losses.dtype)

    def _learn(self, after: Tensor, known: Tensor) -> None:
        """Move x of the known tasks by how their losses changed since they were last seen."""
        if not bool(known.all()):
            # The others get the known tasks' mean change, which leaves those as if they were alone.
            old, there = self._before + _EPSILON, known.to(after.device)
            share = self._learned.softmax(0) * there
            change = (share * (old.log() - (after + _EPSILON).log())).sum() / share.sum()
            after = torch.where(there, after, old * torch.exp(-change) - _EPSILON)
        self._famo(self._before)
        with self._held(known):
            self._famo._optimizer = self._optimizer  # torchjd's own would not know a checkpoint's moments
            self._famo.update(after)
