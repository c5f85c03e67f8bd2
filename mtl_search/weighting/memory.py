"""Memory: what weightings that remember need beside their method.

It checks the state that a checkpoint gives, and keeps an absent task's part of it as it was.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mtl_search.weighting.base import Weighting


def check_state(weighting: Weighting, state: Mapping[str, Any]) -> None:
    """Whether a state is one of this weighting, started for as many tasks.

    Raises:
        ValueError: It is another weighting's, or of another number of tasks.
    """
    own = weighting.state_dict()
    if own.keys() != state.keys():
        raise ValueError(f"the state of {type(weighting).__name__} must hold {sorted(own)}, got {sorted(state)}")
    for name, value in own.items():
        if isinstance(value, Tensor) and value.shape != getattr(state[name], "shape", None):
            shape = tuple(getattr(state[name], "shape", ()))
            raise ValueError(
                f"the state of {type(weighting).__name__} must hold {name} {tuple(value.shape)}, got {shape}"
            )


class LearnedWeights(Weighting):
    """A weighting that learns one number per task by Adam; ``_start`` says with which numbers it begins.

    torch counts steps for all tasks together: one that was absent takes its next steps as if it had been there.
    """

    lr: float
    weight_decay: float = 0.0
    _learned: nn.Parameter
    _adam: torch.optim.Adam | None = None

    def _begin_with(self, learned: nn.Parameter) -> None:
        self._learned, self._adam = learned, None

    @property
    def _optimizer(self) -> torch.optim.Adam:
        # Made when needed: torch's first optimiser takes seconds of imports, and who checks a study file takes no step.
        if self._adam is None:
            self._adam = torch.optim.Adam([self._learned], self.lr, weight_decay=self.weight_decay)
        return self._adam

    def state_dict(self) -> dict[str, Any]:
        return {"learned": self._learned.detach().clone(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(self, state)
        with torch.no_grad():
            self._learned.copy_(state["learned"])
        self._optimizer.load_state_dict(state["optimizer"])
        for moments in self._optimizer.state.values():
            # Loading may put it on a device, which every step would have to wait for.
            moments["step"] = moments["step"].cpu()

    @contextmanager
    def _held(self, moving: Tensor | None) -> Iterator[None]:
        """Keep tasks that have no say in a step as they are: the number learned for them and its moments.

        Args:
            moving: Tasks that learn in the step taken inside, bool (K,) on the CPU; None for all.
        """
        if moving is None or bool(moving.all()):
            yield
            return
        still = (~moving).nonzero().flatten().to(self._learned.device)
        number = self._learned.detach()[still]
        before = {name: value[still] for name, value in self._moments()}
        yield
        with torch.no_grad():
            self._learned[still] = number
            for name, value in self._moments():
                value[still] = before.get(name, torch.zeros_like(value[still]))

    def _moments(self) -> list[tuple[str, Tensor]]:
        state = self._optimizer.state.get(self._learned, {})
        return [(name, value) for name, value in state.items() if value.shape == self._learned.shape]
