"""Models and checkpoints on disk: tensors and plain values, written whole or not at all, read without running code."""

import hashlib
import logging
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from mtl_search.recipe import content_key
from mtl_search.training.files import leftovers, replacing

MODEL_FILE = "model.safetensors"
_CHECKPOINT_FILE = "checkpoint.pt"
_BLOCKS = "blocks."
_log = logging.getLogger(__name__)


def save_model(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Write a model's parameters and buffers as ``model.safetensors``."""
    save_tensors(folder / MODEL_FILE, state)


def load_model(folder: Path) -> dict[str, Tensor]:
    """Read what ``save_model`` wrote, onto the CPU."""
    return load_file(folder / MODEL_FILE)


def save_base(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Write a base, keys ``{l}.<name>``, as the model of which it is the trunk."""
    cut = ((name.partition("."), value) for name, value in state.items())
    save_model(folder, {f"{_BLOCKS}{block}.0.{name}": value for (block, _, name), value in cut})


def base_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The base in the state of a model that has one copy of each block, keys ``{l}.<name>``."""
    named = {name.removeprefix(_BLOCKS): value for name, value in state.items() if name.startswith(_BLOCKS)}
    cut = ((name.split(".", 2), value) for name, value in named.items())
    return {f"{block}.{name}": value for (block, _, name), value in cut}


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name to a safetensors file."""
    with replacing(path) as temporary:
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, temporary)


def state_key(state: Mapping[str, Tensor]) -> str:
    """Content key of parameters and buffers on the CPU."""
    forms = {name: [str(value.dtype), list(value.shape)] for name, value in state.items()}
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(state[name].detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return content_key(forms, digest.hexdigest())


class StoredTensors(Mapping[str, Tensor]):
    """A safetensors file as a mapping whose tensors are read, onto a device, each time they are asked for.

    Args:
        path: The file.
        device: Where to.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self._file, self._device = safe_open(path, "pt"), device
        self._names = dict.fromkeys(self._file.keys())  # type: ignore[no-untyped-call]

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        tensor: Tensor = self._file.get_tensor(name)  # type: ignore[no-untyped-call]
        return tensor.to(self._device)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the state a stage resumes from: tensors and plain values only."""
    with replacing(folder / _CHECKPOINT_FILE) as temporary:
        torch.save(dict(state), temporary)


def load_checkpoint(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """Read the last checkpoint of a stage.

    Returns:
        What ``save_checkpoint`` wrote; None where there is none, or where the file is damaged: then the stage starts
        anew, which costs time and nothing else.
    """
    path = folder / _CHECKPOINT_FILE
    if not path.exists():
        return None
    try:
        loaded: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        _log.warning("checkpoint %s cannot be read, so its stage starts anew (%s)", path, reason)
        return None
    return loaded


def drop_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a stage that has ended, and what a kill in the middle of writing one left."""
    for path in (folder / _CHECKPOINT_FILE, *leftovers(folder / _CHECKPOINT_FILE)):
        path.unlink(missing_ok=True)
