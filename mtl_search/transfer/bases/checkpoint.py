"""Checkpoint: a base from a file of tensors, whatever its names for them."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mtl_search.errors import ConfigError, Problem
from mtl_search.transfer.bases.base import Base, Fetch, check_fit

_PLACE = "base.checkpoint"


class CheckpointBase(Base):
    """Parameters from a file that was written before, read without running anything in it.

    Args:
        path: A ``.safetensors`` file, or one written by ``torch.save``: tensors by name, ``{l}.<name>`` for block l.
        keys: Beginnings of the file's names, and what stands for them in the backbone, e.g. ``{encoder.layer.0.: 1.}``;
            the longest that fits counts, and a name that none fits stays as it is.
        ignore: Beginnings of names in the file that are of no use here, such as another task's head.

    Raises:
        ConfigError: There is no such file.
    """

    def __init__(self, path: str, keys: dict[str, str] | None = None, ignore: list[str] | None = None) -> None:
        self.path = path
        self.keys = keys or {}
        self.ignore = tuple(ignore or ())
        if not Path(path).is_file():
            raise ConfigError([Problem(f"{_PLACE}.path", "must be a file", path)])

    def _state(self, fresh: dict[str, Tensor], fetch: Fetch) -> dict[str, Tensor]:
        loaded = _read(Path(self.path))
        idle = [
            Problem(f"{_PLACE}.{place}", "has no effect: no name in the file begins with it", start)
            for place, starts in (("keys", self.keys), ("ignore", self.ignore))
            for start in starts
            if not any(name.startswith(start) for name in loaded)
        ]
        if idle:
            raise ConfigError(idle)
        named: dict[str, Tensor] = {}
        for name, value in loaded.items():
            if not name.startswith(self.ignore):
                start = max((start for start in self.keys if name.startswith(start)), key=len, default="")
                new = self.keys.get(start, "") + name.removeprefix(start)
                if new in named:
                    raise ConfigError([Problem(f"{_PLACE}.keys", f"must not give two tensors the name {new!r}", name)])
                named[new] = value
        return check_fit(fresh, named, f"{_PLACE}.path")


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors by name.

    Raises:
        ConfigError: The file is damaged, of another form, or holds anything but tensors.
    """
    place = f"{_PLACE}.path"
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        rule = "must hold tensors by name and nothing else (refused without running what is in it)"
        raise ConfigError([Problem(place, rule, str(path))]) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError([Problem(place, f"must be a readable checkpoint ({reason})", str(path))]) from error
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()
    ):
        raise ConfigError([Problem(place, "must hold tensors by name", type(loaded).__name__)])
    return dict(loaded)
