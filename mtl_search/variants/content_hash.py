"""Contents: a key for any Python object, by what it is made of and not by where it lies.

What a user hands over in Python (`objects`) is told apart by it: the same object made again in another process has the
same key, and one with other parameters, settings or code has another.
"""

import hashlib
from collections.abc import Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mtl_search.errors import ConfigError, Problem
from mtl_search.variants.building import is_library

_LENGTH = 12
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)


def content_hash(value: object, place: str) -> str:
    """Content key of an object: 12 hexadecimal characters, the same in every process of one version of Python.

    It covers the class (a user's own with its code), every attribute, and the numbers of tensors and arrays, whatever
    their device. Whether a module is in training mode does not count.

    Args:
        value: Any object that could be pickled.
        place: Key path for the error.

    Raises:
        ConfigError: Something in it has no content of its own, such as an open file or a parameter without values.
    """
    digest = _Digest()
    try:
        digest.add(value)
    except (TypeError, ValueError, AttributeError, NotImplementedError, RuntimeError) as error:
        rule = f"must be made of tensors, arrays, plain values and modules ({type(error).__name__}: {error})"
        raise ConfigError([Problem(place, rule, type(value).__name__)]) from error
    return digest.key()


class _Digest:
    """Walks through an object once and hashes what it meets."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._seen: dict[int, tuple[int, object]] = {}  # holds what it has seen: an id is an object's while it lives

    def key(self) -> str:
        return self._hash.hexdigest()[:_LENGTH]

    def add(self, value: object) -> None:
        if type(value) in _PLAIN:
            self._write(type(value).__name__, repr(value))
        elif isinstance(value, tuple):  # equal tuples are often one object, or not, by chance
            self._write("tuple", type(value).__qualname__, len(value))
            for item in value:
                self.add(item)
        elif id(value) in self._seen:
            self._write("seen", self._seen[id(value)][0])
        else:
            self._seen[id(value)] = len(self._seen), value
            self._add_new(value)

    def _add_new(self, value: object) -> None:
        if isinstance(value, Tensor):
            self._add_tensor(value)
        elif isinstance(value, np.ndarray):
            self._write("array", value.dtype.str, value.shape)
            if value.dtype == object:
                self.add(value.ravel().tolist())
            else:
                self._hash.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, list):
            self._write("list", len(value))
            for item in value:
                self.add(item)
        elif type(value) is dict:
            self._add_items(value)
        elif isinstance(value, set | frozenset):
            self._write("set", *sorted(_alone(item) for item in value))
        elif isinstance(value, ModuleType):
            self._write("module", value.__name__)
        elif isinstance(value, type):
            self._add_class(value)
        elif isinstance(value, FunctionType):
            self._add_function(value)
        elif isinstance(value, CodeType):
            self._write("code", value.co_names, value.co_varnames, value.co_code.hex())
            self.add(value.co_consts)
        else:
            self._add_reduced(value)

    def _add_items(self, items: Mapping[Any, Any]) -> None:
        self._write("dict", len(items))
        for key, item in items.items():
            self.add(key)
            self.add(item)

    def _add_tensor(self, value: Tensor) -> None:
        if is_lazy(value):
            raise TypeError("a lazy parameter has no values yet; run one batch through the module first")
        value = value.detach().cpu().contiguous()
        self._write("tensor", value.dtype, tuple(value.shape))
        self._hash.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())

    def _add_class(self, value: type) -> None:
        self._write("class", value.__module__, value.__qualname__)
        if is_library(value.__module__):
            return
        self.add(value.__bases__)
        for name, part in vars(value).items():
            if isinstance(part, staticmethod | classmethod):
                part = part.__func__
            if isinstance(part, property):
                part = [part.fget, part.fset]
            setting = type(part) in (*_PLAIN, tuple, list, dict) and not name.startswith("__")
            if setting or isinstance(part, FunctionType):
                self._write("of", name)
                self.add(part)

    def _add_function(self, value: FunctionType) -> None:
        self._write("function", value.__module__, value.__qualname__)
        if not is_library(value.__module__):
            self.add(value.__code__)
            self.add([value.__defaults__, value.__kwdefaults__])
            self.add([cell.cell_contents for cell in value.__closure__ or () if cell.cell_contents is not value])

    def _add_reduced(self, value: object) -> None:
        """An object as pickle would take it apart."""
        reduced = value.__reduce_ex__(4)
        if isinstance(reduced, str):
            self._write("global", type(value).__module__, reduced)
            return
        make, arguments, state, items, pairs, *_ = (*reduced, None, None, None)
        if isinstance(value, nn.Module) and isinstance(state, dict):
            state = {name: part for name, part in state.items() if name != "training"}
        self._write("object")
        self.add(make if isinstance(make, FunctionType | type) else getattr(make, "__qualname__", repr(make)))
        self.add([arguments, state, list(items or ()), list(pairs or ())])

    def _write(self, *words: object) -> None:
        self._hash.update("".join(f"{len(text)}:{text}" for text in map(str, words)).encode())


def _alone(value: object) -> str:
    digest = _Digest()
    digest.add(value)
    return digest.key()
