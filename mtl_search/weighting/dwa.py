"""Dwa: weights by how fast the losses fall from epoch to epoch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtl_search.recipe import PositiveFloat
from mtl_search.weighting.base import JointStage, Weighting
from mtl_search.weighting.memory import check_state
from mtl_search.weighting.presence import bounded, zero_absent
from mtl_search.weighting.scalarized import derivative


class Dwa(Weighting):
    """Dynamic weight average: w_i = K softmax(r_i / T), r_i the last epoch's mean loss over that of the epoch before.

    A task's mean is taken over the batches in which it has a label; an epoch without any is left out. r_i is 1 until
    there are two means.

    Paper: Liu et al., End-to-End Multi-Task Learning with Attention, CVPR 2019, https://arxiv.org/abs/1803.10704

    Args:
        temperature: T; large values make the weights even.
    """

    def __init__(self, temperature: PositiveFloat = 2.0) -> None:
        self.temperature = temperature

    def idle(self, stage: JointStage) -> bool:
        """Where the stage ends with the second epoch: only then there are two means to compare."""
        return not stage.longer_than(2)

    def _start(self, tasks: tuple[str, ...], device: torch.device, seed: int) -> None:
        count = len(tasks)
        self._sums = torch.zeros(count, dtype=torch.float64, device=device)
        self._counts = torch.zeros(count, dtype=torch.int64)
        self._means = torch.full((2, count), torch.nan, dtype=torch.float64)
        self._current = torch.ones(count, dtype=torch.float64, device=device)

    def end_epoch(self) -> None:
        seen = self._counts > 0
        mean = self._sums.cpu() / self._counts
        self._means = torch.where(seen, torch.stack([self._means[1], mean]), self._means)
        self._sums.zero_()
        self._counts.zero_()
        self._weigh()

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums.clone(), "counts": self._counts.clone(), "means": self._means}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(self, state)
        self._sums.copy_(state["sums"])
        self._counts.copy_(state["counts"])
        self._means = state["means"].cpu()
        self._weigh()

    def _weights(self, losses: Tensor, present: Tensor | None, gramian: Tensor | None) -> Tensor:
        self._sums += zero_absent(bounded(losses), present, self._sums)
        self._counts += 1 if present is None else present
        return zero_absent(self._current, present, losses)

    def _weigh(self) -> None:
        """The weights of the epoch to come, from the two last means."""
        from torchjd.scalarization import DWA

        dwa = DWA(self.temperature)
        for mean in torch.where(self._means.isnan().any(0), 1.0, self._means):
            dwa(mean)
            dwa.step()
        self._current = derivative(dwa, torch.ones_like(self._means[0])).to(self._sums.device)
