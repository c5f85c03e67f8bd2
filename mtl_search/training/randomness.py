"""Randomness: the states of the generators that a block draws from, for ``prefix`` to see and undo a draw."""

from collections.abc import Sequence

import torch
from torch import Tensor


def random_states(device: torch.device) -> list[Tensor]:
    """States of torch's default generators on the CPU and on a device."""
    if device.type == "cpu":
        return [torch.get_rng_state()]
    return [torch.get_rng_state(), torch.get_device_module(device).get_rng_state(*_of(device))]


def set_random_states(device: torch.device, states: Sequence[Tensor]) -> None:
    """Go back to what ``random_states`` gave."""
    torch.set_rng_state(states[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[1], *_of(device))


def _of(device: torch.device) -> tuple[torch.device, ...]:
    return () if device.type == "mps" else (device,)  # there is one of these, and its functions take none
