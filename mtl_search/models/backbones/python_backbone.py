"""PythonBackbone: a user's own network, given as a function that returns its blocks."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from mtl_search.errors import ConfigError, Problem
from mtl_search.models.backbones.base import Backbone
from mtl_search.variants.building import import_object


class PythonBackbone(Backbone):
    """Blocks from ``function(input_shape, **params)``: any torch modules in order, the last giving (n, features).

    Args:
        function: ``package.module:function``; returns the ordered list of modules for one sample's shape.
        params: Further keyword arguments of the function.
    """

    def __init__(self, function: str, params: dict[str, Any] | None = None) -> None:
        self.function = function
        self.params = dict(params or {})
        build = import_object(function, "backbone.python.function")
        if not callable(build):
            raise ConfigError([Problem("backbone.python.function", "must be callable", function)])
        self._build: Callable[..., Iterable[nn.Module]] = build

    def _blocks(self, input_shape: tuple[int, ...]) -> list[nn.Module]:
        try:
            built: object = self._build(input_shape, **self.params)
        except Exception as error:  # user code: whatever it raises is the user's to read
            reason = f"{type(error).__name__}: {error}"
            rule = f"must be a function that takes (input_shape, **params) ({reason})"
            raise ConfigError([Problem("backbone.python.function", rule, self.function)]) from error
        if not isinstance(built, Iterable):
            raise ConfigError([Problem("backbone.python.function", "must return a list of torch modules", built)])
        # A function may hand out modules that it keeps: without the copy two models would train the same parameters.
        return copy.deepcopy(list(built))
