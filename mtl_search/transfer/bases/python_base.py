"""PythonBase: a library's own pretrained parameters, handed over by a user's function."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mtl_search.errors import ConfigError, Problem
from mtl_search.transfer.bases.base import Base, Fetch, check_fit
from mtl_search.variants.building import import_object

_PLACE = "base.python.function"


class PythonBase(Base):
    """Parameters that ``function(**params)`` returns.

    Args:
        function: ``package.module:function``; returns tensors by name, ``{l}.<name>`` for block l, or the list of
            blocks themselves with their parameters.
        params: Keyword arguments of the function.
    """

    def __init__(self, function: str, params: dict[str, Any] | None = None) -> None:
        self.function = function
        self.params = dict(params or {})
        self._give = import_object(function, _PLACE)
        if not callable(self._give):
            raise ConfigError([Problem(_PLACE, "must be callable", function)])

    def _state(self, fresh: dict[str, Tensor], fetch: Fetch) -> dict[str, Tensor]:
        try:
            given: object = self._give(**self.params)
        except Exception as error:  # user code: whatever it raises is the user's to read
            rule = f"must be a function that takes (**params) ({type(error).__name__}: {error})"
            raise ConfigError([Problem(_PLACE, rule, self.function)]) from error
        if isinstance(given, list | tuple) and all(isinstance(block, nn.Module) for block in given):
            given = nn.ModuleList(given).state_dict()
        if not isinstance(given, Mapping) or not all(
            isinstance(name, str) and isinstance(value, Tensor) for name, value in given.items()
        ):
            rule = "must return tensors by name, or a list of torch modules"
            raise ConfigError([Problem(_PLACE, rule, type(given).__name__)])
        return check_fit(fresh, given, _PLACE)
