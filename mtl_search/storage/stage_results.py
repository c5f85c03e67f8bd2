"""Results: what a stage leaves in its folder, and what is found there later: whole, or not at all.

``stages`` writes and reads it; reports read it long after. Torch is imported only where a model is written or checked:
reading a result needs none.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from mtl_search.errors import DamagedError
from mtl_search.storage.files import (
    RESULT_FILE,
    STOPPED_FILE,
    STOPPED_MODEL_FILE,
    read_json,
    remove_files,
    write_sealed,
)
from mtl_search.storage.paths import StoragePath, forget_copy, local_copy, storage_path
from mtl_search.storage.reports import StageResult

if TYPE_CHECKING:
    from torch import Tensor

_AT_ONCE = 16
"""Files of a store that are asked for side by side."""
_AT_A_TIME = 256
_log = logging.getLogger(__name__)


def write_results(folder: StoragePath, state: Mapping[str, "Tensor"], result: StageResult) -> None:
    """Write the model and the result of a finished stage; those of a stopped joint one stand beside its checkpoint.

    Args:
        folder: The stage's.
        state: The model's parameters and buffers.
        result: As ``stages.run_stage`` returns it.

    Raises:
        StorageError: There is no room, or the store refuses.
    """
    from mtl_search.storage.checkpoint import CHECKPOINT_FILE, save_model, save_tensors

    if not result.stopped:
        save_model(folder, state)
        write_sealed(folder / RESULT_FILE, result.to_dict())
    # First what says that a model is there, so that nobody takes a model for that of another result.
    remove_files(folder, STOPPED_FILE, STOPPED_MODEL_FILE, *(() if result.stopped else (CHECKPOINT_FILE,)))
    if result.stopped and result.kind == "joint":
        save_tensors(folder / STOPPED_MODEL_FILE, state)
        write_sealed(folder / STOPPED_FILE, result.to_dict())


def result_in(folder: StoragePath, name: str = RESULT_FILE) -> StageResult | None:
    """The result in a stage's folder; None where there is none, or a damaged one."""
    try:
        return read_result(folder / name)
    except FileNotFoundError:
        return None
    except DamagedError as error:
        _log.warning("%s", error)
        return None


def read_result(file: StoragePath) -> StageResult:
    """Read the result in a file.

    Raises:
        FileNotFoundError: There is no such file.
        StorageError: There may be, and it cannot be read.
        DamagedError: It is not what was written.
    """
    plain = read_json(file)
    try:
        return StageResult.from_dict(plain)
    except (TypeError, AttributeError) as error:
        raise DamagedError(f"{file} is damaged: it holds no result of a stage ({error})") from error


def results_in(files: Sequence[tuple[StoragePath, str, str]]) -> Iterator[StageResult | None]:
    """The results in many folders, side by side where they are far away; a few at a time, since there may be thousands.

    Args:
        files: Folder, the result's file in it, and a file that must be there too; empty for none.

    Yields:
        As ``result_in``, in order; None also where the other file is missing.
    """

    def found(wanted: tuple[StoragePath, str, str]) -> StageResult | None:
        folder, name, beside = wanted
        return result_in(folder, name) if not beside or (folder / beside).exists() else None

    if all(isinstance(folder, Path) for folder, *_ in files):
        yield from map(found, files)
        return
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for start in range(0, len(files), _AT_A_TIME):
            yield from threads.map(found, files[start : start + _AT_A_TIME])


def whole_result_in(folder: StoragePath) -> StageResult | None:
    """The same of a stage that has ended and whose model is as it was written."""
    from mtl_search.storage.checkpoint import MODEL_FILE, is_intact

    result = result_in(folder)
    return result if result is not None and is_intact(folder / MODEL_FILE) else None


def single_result(folder: str) -> StageResult:
    """The result of a single-task model, which many trials ask for: of a remote one the copy on this machine counts.

    Raises:
        FileNotFoundError: There is none.
        DamagedError: It is not what was written.
    """
    file = storage_path(folder) / RESULT_FILE
    try:
        return read_result(local_copy(file))
    except DamagedError:
        forget_copy(file)
        raise


def whole_single(folder: str) -> bool:
    """Whether a single-task model and its result are there as they were written."""
    from mtl_search.storage.checkpoint import MODEL_FILE, is_intact

    try:
        single_result(folder)
    except FileNotFoundError:
        return False
    except DamagedError as error:
        _log.warning("%s", error)
        return False
    return is_intact(storage_path(folder) / MODEL_FILE)


def step_gains(
    singles: Mapping[str, str], first: Mapping[str, float], best: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """What every step from the base to a joint model came to, main validation metric by task.

    Args:
        singles: Folder of the single-task model by task.
        first: Metrics of the fused model.
        best: Metrics of the joint one.
    """
    alone = {task: single_result(folder) for task, folder in singles.items()}
    return {
        "base": {task: result.history[0].metrics[task] for task, result in alone.items()},
        "single": {task: result.metrics[task] for task, result in alone.items()},
        "fused": {task: first[task] for task in alone},
        "joint": {task: best[task] for task in alone},
    }
