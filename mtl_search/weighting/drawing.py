"""Drawing: weightings that draw random numbers, the same on every rank and after a resume.

torchjd draws from torch's global generator, whose state differs from rank to rank.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from mtl_search.recipe import seed_from
from mtl_search.weighting.base import Weighting
from mtl_search.weighting.memory import check_state


class RandomWeighting(Weighting):
    """A weighting that draws from torch's global generator, seeded anew for every step and then given back."""

    _seed: int
    _step: int

    def _start(self, tasks: tuple[str, ...], device: torch.device, seed: int) -> None:
        self._seed, self._step = seed, 0

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(self, state)
        self._step = state["step"]

    @contextmanager
    def _drawing(self, device: torch.device | None = None) -> Iterator[None]:
        """Seed the generator for one step.

        Args:
            device: Whose generator is given back as it was too, where that is not the CPU's.
        """
        others = [] if device is None or device.type == "cpu" else [device]
        with torch.random.fork_rng(others, device_type=others[0].type if others else "cuda"):
            torch.default_generator.manual_seed(seed_from(self._seed, self._step))
            self._step += 1
            yield
