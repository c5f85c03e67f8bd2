"""Blocks: a backbone that a user hands over in Python as modules, with the parameters they have."""

import copy
from collections.abc import Iterable
from typing import Any

from torch import nn

from mtl_search.errors import ConfigError, Problem
from mtl_search.models.backbones.base import Backbone


class Blocks(Backbone):
    """Modules in order; the last gives (n, features).

    Their present parameters stand where another backbone has random ones: a pretrained network starts from what it
    knows. The modules themselves are copied at once, to the CPU, and never changed.

    Args:
        modules: The blocks, as a list, ``nn.Sequential`` or ``nn.ModuleList``.

    Raises:
        ConfigError: One of them is no module.
    """

    def __init__(self, modules: Iterable[Any]) -> None:
        given = list(modules)
        problems = [
            Problem(f"backbone[{number}]", "must be a torch module", type(module).__name__)
            for number, module in enumerate(given)
            if not isinstance(module, nn.Module)
        ]
        if problems:
            raise ConfigError(problems)
        self._modules = [module.cpu() for module in copy.deepcopy(given)]

    def __deepcopy__(self, memo: dict[int, Any]) -> "Blocks":
        return self  # it holds no state, and gives copies

    def _blocks(self, input_shape: tuple[int, ...]) -> list[nn.Module]:
        return copy.deepcopy(self._modules)
