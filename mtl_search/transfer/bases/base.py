"""Base: where the backbone's starting parameters theta_0 come from.

A recipe's ``base`` component is one; every single-task model starts from the state it gives.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import final

import torch
from torch import Tensor, nn

from mtl_search.errors import ConfigError, Problem

MakeBlocks = Callable[[], list[nn.Module]]
State = Mapping[str, Tensor]
Fetch = Callable[[str], State]
"""Gives the trunk of an earlier model by its name, keys ``{l}.<name>``."""


def no_models(name: str) -> State:
    """Where no earlier model can be had."""
    raise ConfigError([Problem("base", "must not need an earlier model here", name)])


class Base(ABC):
    """A source of starting parameters; the constructor's signature is its schema in the study file."""

    @final
    def state(self, make_blocks: MakeBlocks, seed: int, fetch: Fetch = no_models) -> dict[str, Tensor]:
        """State of the backbone's blocks.

        Args:
            make_blocks: Gives fresh blocks, initialised from torch's global random state.
            seed: Of whatever is drawn at random; the global random state stays as it was.
            fetch: Gives the trunk of an earlier model.

        Returns:
            Tensors on the CPU, keys ``{l}.<name>`` for block l.

        Raises:
            ConfigError: The parameters asked for cannot be had, or do not fit the backbone.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            fresh = nn.ModuleList(make_blocks()).state_dict()
        return self._state({name: value.detach() for name, value in fresh.items()}, fetch)

    @abstractmethod
    def _state(self, fresh: dict[str, Tensor], fetch: Fetch) -> dict[str, Tensor]:
        """The base, given freshly initialised blocks to start from or to compare with."""


def check_fit(fresh: State, found: State, place: str) -> dict[str, Tensor]:
    """Parameters from elsewhere in the form that the backbone has.

    Args:
        fresh: The backbone's own.
        found: By the same names.
        place: Where they come from, for errors.

    Raises:
        ConfigError: Names, shapes or types differ, or a number is NaN; every such place.
    """
    problems = [Problem(place, f"lacks {name!r} of the backbone") for name in fresh if name not in found]
    problems += [Problem(place, f"has {name!r}, which the backbone lacks") for name in found if name not in fresh]
    for name in sorted(fresh.keys() & found.keys()):
        want, got = fresh[name], found[name]
        if want.shape != got.shape:
            rule = f"{name!r} must have shape {tuple(want.shape)}"
            problems.append(Problem(place, rule, tuple(got.shape)))
        elif want.is_floating_point() != got.is_floating_point():
            problems.append(Problem(place, f"{name!r} must be {want.dtype}", str(got.dtype)))
        elif got.is_floating_point() and got.isnan().any():
            problems.append(Problem(place, f"{name!r} must have no NaN"))
    if problems:
        raise ConfigError(problems)
    return {name: found[name].detach().cpu().to(like.dtype).clone().contiguous() for name, like in fresh.items()}
