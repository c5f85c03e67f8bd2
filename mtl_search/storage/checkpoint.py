"""Models and checkpoints on disk: tensors and plain values, written whole or not at all, read without running code."""

import hashlib
import logging
import pickle
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mtl_search.errors import DamagedError, StorageError
from mtl_search.recipe import content_key
from mtl_search.storage.files import read_errors, replace_file
from mtl_search.storage.paths import StoragePath, forget_copy, local_copy, scratch

MODEL_FILE = "model.safetensors"
CHECKPOINT_FILE = "checkpoint.pt"
_KEY = "content"
"""Entry of a file's metadata: content key of its tensors."""
_TRAILER = b"sha256:"
_TRAILER_BYTES = len(_TRAILER) + hashlib.sha256().digest_size
_LITTLE = 1 << 20  # bytes
_intact: set[tuple[str, int, int, int]] = set()
"""Files that this process has held against their digests, as they were then."""
_BLOCKS = "blocks."
_log = logging.getLogger(__name__)


def save_model(folder: StoragePath, state: Mapping[str, Tensor]) -> None:
    """Write a model's parameters and buffers as ``model.safetensors``."""
    save_tensors(folder / MODEL_FILE, state)


def load_model(folder: StoragePath) -> dict[str, Tensor]:
    """Read what ``save_model`` wrote, onto the CPU; see ``load_tensors``."""
    return load_tensors(folder / MODEL_FILE)


def save_base(folder: StoragePath, state: Mapping[str, Tensor]) -> None:
    """Write a base, keys ``{l}.<name>``, as the model of which it is the trunk."""
    cut = ((name.partition("."), value) for name, value in state.items())
    save_model(folder, {f"{_BLOCKS}{block}.0.{name}": value for (block, _, name), value in cut})


def base_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The base in the state of a model that has one copy of each block, keys ``{l}.<name>``."""
    named = {name.removeprefix(_BLOCKS): value for name, value in state.items() if name.startswith(_BLOCKS)}
    cut = ((name.split(".", 2), value) for name, value in named.items())
    return {f"{block}.{name}": value for (block, _, name), value in cut}


def save_tensors(path: StoragePath, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name to a safetensors file, with their content key.

    Raises:
        StorageError: There is no room, or the store refuses.
    """
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    with _writing(path) as temporary:
        save_file(plain, temporary, {_KEY: state_key(plain)})


@contextmanager
def _writing(path: StoragePath) -> Iterator[Path]:
    """As ``replacing``; the writers of tensors have exceptions of their own for a full disk."""
    with replace_file(path) as temporary:
        try:
            yield temporary
        except (SafetensorError, RuntimeError) as error:
            full = shutil.disk_usage(temporary.parent).free < _LITTLE
            reason = "no space is left" if full else str(error).partition("\n")[0]
            raise StorageError(f"cannot write {path}: {reason}") from error


def load_tensors(path: StoragePath) -> dict[str, Tensor]:
    """Read what ``save_tensors`` wrote, onto the CPU; a file without a content key is taken as it is.

    Raises:
        FileNotFoundError: There is no such file.
        StorageError: There may be, and it cannot be read.
        DamagedError: It is not what was written.
    """
    try:
        with read_errors(path):
            return _load(path, local_copy(path))
    except DamagedError:
        forget_copy(path)  # the copy alone may be damaged
        raise


def _load(path: StoragePath, local: Path) -> dict[str, Tensor]:
    before = _identity(local)
    with local.open("rb"):
        pass  # safetensors would say of a file that may not be read that there is none
    try:
        with safe_open(local, "pt") as file:
            written = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except SafetensorError as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
    if written is not None and before not in _intact:
        if state_key(tensors) != written:
            raise DamagedError(f"{path} is damaged: its content has changed since it was written")
        _intact.add(before)
    return tensors


def is_intact(path: StoragePath) -> bool:
    """Whether a file of tensors is there and is what was written. A process looks into the same file once."""
    try:
        with read_errors(path):
            known = _identity(local_copy(path)) in _intact
        if not known:
            load_tensors(path)
    except FileNotFoundError:
        return False
    except DamagedError as error:
        _log.warning("%s", error)
        return False
    return True


def _identity(path: Path) -> tuple[str, int, int, int]:
    found = path.stat()
    return str(path), found.st_ino, found.st_size, found.st_mtime_ns


def state_key(state: Mapping[str, Tensor]) -> str:
    """Content key of parameters and buffers on the CPU."""
    forms = {name: [str(value.dtype), list(value.shape)] for name, value in state.items()}
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(state[name].detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return content_key(forms, digest.hexdigest())


class StoredTensors(Mapping[str, Tensor]):
    """A safetensors file as a mapping whose tensors are read, onto a device, each time they are asked for.

    Args:
        path: The file.
        device: Where to.

    Raises:
        DamagedError: The file is not what was written.
    """

    def __init__(self, path: StoragePath, device: torch.device) -> None:
        if not is_intact(path):
            raise DamagedError(f"{path} is damaged or gone")
        self._file, self._device = safe_open(local_copy(path), "pt"), device
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


def save_checkpoint(folder: StoragePath, state: Mapping[str, Any]) -> None:
    """Write the state a stage resumes from: tensors and plain values only, then a digest of the file so far.

    Raises:
        StorageError: There is no room, or the store refuses.
    """
    with _writing(folder / CHECKPOINT_FILE) as temporary:
        torch.save(dict(state), temporary)
        with temporary.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        with temporary.open("ab") as file:
            file.write(_TRAILER + digest)


def load_checkpoint(folder: StoragePath, device: torch.device) -> dict[str, Any] | None:
    """Read the last checkpoint of a stage.

    Returns:
        What ``save_checkpoint`` wrote; None where there is none, or where the file is damaged: then the stage starts
        anew, which costs time and nothing else.
    """
    path = folder / CHECKPOINT_FILE
    try:
        if isinstance(path, Path):
            return _read_checkpoint(path, device)
        with tempfile.TemporaryDirectory(dir=scratch(), prefix="read-") as own:  # read once, so not kept as a copy
            local = Path(own) / CHECKPOINT_FILE
            path.download(local)
            return _read_checkpoint(local, device)
    except FileNotFoundError:
        return None
    except (DamagedError, RuntimeError, EOFError, OSError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        _log.warning("checkpoint %s cannot be read, so its stage starts anew (%s)", path, reason)
        return None


def _read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = path.stat().st_size - _TRAILER_BYTES
        while left > 0 and (chunk := file.read(min(left, 1 << 20))):
            digest.update(chunk)
            left -= len(chunk)
        if file.read() != _TRAILER + digest.digest():
            raise DamagedError("its content is not what was written")
    loaded: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return loaded
