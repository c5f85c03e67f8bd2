"""Models and checkpoints on disk: tensors and plain values, written whole or not at all, read without running code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mtl_search.training.files import replacing

MODEL_FILE = "model.safetensors"
_CHECKPOINT_FILE = "checkpoint.pt"


def save_model(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Write a model's parameters and buffers as ``model.safetensors``."""
    with replacing(folder / MODEL_FILE) as temporary:
        save_file({key: value.detach().cpu().contiguous() for key, value in state.items()}, temporary)


def load_model(folder: Path) -> dict[str, Tensor]:
    """Read what ``save_model`` wrote, onto the CPU."""
    return load_file(folder / MODEL_FILE)


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the state a stage resumes from: tensors and plain values only."""
    with replacing(folder / _CHECKPOINT_FILE) as temporary:
        torch.save(dict(state), temporary)


def has_checkpoint(folder: Path) -> bool:
    """Whether a stage left something to resume from."""
    return (folder / _CHECKPOINT_FILE).exists()


def load_checkpoint(folder: Path, device: torch.device) -> dict[str, Any]:
    """Read the last checkpoint of a stage."""
    loaded: dict[str, Any] = torch.load(folder / _CHECKPOINT_FILE, map_location=device, weights_only=True)
    return loaded


def drop_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a stage that has ended."""
    (folder / _CHECKPOINT_FILE).unlink(missing_ok=True)
