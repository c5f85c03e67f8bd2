"""Bases: the backbone's starting parameters theta_0.

The study file's ``base`` section constructs one; every single-task model starts from the state it gives.
"""

import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mtl_search.errors import ConfigError, Problem

MakeBlocks = Callable[[], list[nn.Module]]

_PLACE = "base.checkpoint.path"


class Base(ABC):
    """A source of starting parameters; the constructor's signature is its schema in the study file."""

    @final
    def state(self, make_blocks: MakeBlocks, seed: int) -> dict[str, Tensor]:
        """State of the backbone's blocks.

        Args:
            make_blocks: Gives fresh blocks, initialised from torch's global random state.
            seed: Of whatever is drawn at random; the global random state stays as it was.

        Returns:
            Tensors on the CPU, keys ``{l}.<name>`` for block l.

        Raises:
            ConfigError: The parameters asked for cannot be had, or do not fit the backbone.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            fresh = nn.ModuleList(make_blocks()).state_dict()
        return self._state({name: value.detach() for name, value in fresh.items()})

    @abstractmethod
    def _state(self, fresh: dict[str, Tensor]) -> dict[str, Tensor]:
        """The base, given freshly initialised blocks to start from or to compare with."""


class RandomBase(Base):
    """Random parameters, drawn from the study's seed."""

    def _state(self, fresh: dict[str, Tensor]) -> dict[str, Tensor]:
        return fresh


class CheckpointBase(Base):
    """Parameters from a file that was written before, read without running anything in it.

    Args:
        path: A ``.safetensors`` file, or one written by ``torch.save``: tensors by name, ``{l}.<name>`` for block l.

    Raises:
        ConfigError: There is no such file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        if not Path(path).is_file():
            raise ConfigError([Problem(_PLACE, "must be a file", path)])

    def _state(self, fresh: dict[str, Tensor]) -> dict[str, Tensor]:
        loaded = _read(Path(self.path))
        problems = _misfits(fresh, loaded)
        if problems:
            raise ConfigError(problems)
        return {name: loaded[name].to(like.dtype).contiguous() for name, like in fresh.items()}


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors by name.

    Raises:
        ConfigError: The file is damaged, of another form, or holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        rule = "must hold tensors by name and nothing else (refused without running what is in it)"
        raise ConfigError([Problem(_PLACE, rule, str(path))]) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError([Problem(_PLACE, f"must be a readable checkpoint ({reason})", str(path))]) from error
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()
    ):
        raise ConfigError([Problem(_PLACE, "must hold tensors by name", type(loaded).__name__)])
    return dict(loaded)


def _misfits(fresh: Mapping[str, Tensor], loaded: Mapping[str, Tensor]) -> list[Problem]:
    """Every way in which a checkpoint does not fit the backbone."""
    problems = [Problem(_PLACE, f"lacks {name!r} of the backbone") for name in fresh if name not in loaded]
    problems += [Problem(_PLACE, f"has {name!r}, which the backbone lacks") for name in loaded if name not in fresh]
    for name in fresh.keys() & loaded.keys():
        want, got = fresh[name], loaded[name]
        if want.shape != got.shape:
            rule = f"{name!r} must have shape {tuple(want.shape)}"
            problems.append(Problem(_PLACE, rule, tuple(got.shape)))
        elif want.is_floating_point() != got.is_floating_point():
            problems.append(Problem(_PLACE, f"{name!r} must be {want.dtype}", str(got.dtype)))
        elif got.is_floating_point() and got.isnan().any():
            problems.append(Problem(_PLACE, f"{name!r} must have no NaN"))
    return problems


BASES: dict[str, type[Base]] = {
    "random": RandomBase,
    "checkpoint": CheckpointBase,
}
