"""Average: an exponential moving average of a model's weights over the updates of a stage.

The training step feeds it; the loop validates and keeps the averaged weights in place of the last ones.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """average <- decay * average + (1 - decay) * weights after every update, from the stage's start on.

    Buffers (batch norm's running statistics) are averaged alike, whole numbers among them taken as they are.

    Paper: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, SIAM Journal on Control and
    Optimization 1992, https://doi.org/10.1137/0330046

    Args:
        model: At its start.
        decay: In [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._live = dict[str, Tensor](model.state_dict(keep_vars=True))
        self._mean = {name: value.detach().clone() for name, value in self._live.items()}
        self._buffers = [name for name, _ in model.named_buffers() if name in self._live]
        self._whole = [name for name, value in self._live.items() if not value.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        names = [name for name in self._live if name not in self._whole]
        live, mean = [self._live[name].detach() for name in names], [self._mean[name] for name in names]
        torch._foreach_lerp_(mean, live, 1 - self._decay)
        for name in self._whole:
            self._mean[name].copy_(self._live[name])

    def buffers(self) -> list[Tensor]:
        """The averaged buffers, to be shared between ranks as the model's own are."""
        return [self._mean[name] for name in self._buffers]

    @contextmanager
    def standing_in(self) -> Iterator[None]:
        """Let the model have the averaged weights while the block runs; afterwards it has its own, bit for bit."""
        own = {name: value.detach().clone() for name, value in self._live.items()}
        self._put(self._mean)
        try:
            yield
        finally:
            self._put(own)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by name."""
        return self._mean

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up what ``state_dict`` gave."""
        for name, value in self._mean.items():
            value.copy_(state[name])

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, value in self._live.items():
            value.detach().copy_(values[name])
