"""One job carried out: its stage is trained, or found finished on disk, and a failure is put into words.

Workers on Ray and the local pool both do it.
"""

import sysconfig
import traceback
from dataclasses import replace
from pathlib import Path

import mtl_search
from mtl_search.errors import MtlSearchError
from mtl_search.pool.jobs import LESS_MEMORY, lacks_memory
from mtl_search.storage.reports import StageResult
from mtl_search.training.control import Control
from mtl_search.training.stages import Stage, is_finished, run_stage
from mtl_search.training.workspace import Workspace

_LIBRARIES = (str(Path(mtl_search.__file__).parent), *(sysconfig.get_path(kind) for kind in ("stdlib", "purelib")))


def carry_out(stage: Stage, workspace: Workspace, control: Control) -> StageResult:
    """Carry out a stage on every rank of a group, unless its folder holds its result.

    Args:
        stage: What to do.
        workspace: This worker's data, base and world.
        control: Hears of every epoch and may stop the stage.
    """
    world = workspace.world
    done = is_finished(stage) if world.rank == 0 else None  # another rank's node may see the folder as it was before
    if world.agree(done is not None):
        return replace(done or StageResult(), cached=True)  # rank 0's result counts
    return run_stage(stage, workspace, control)


def failure_reason(error: Exception) -> str:
    """A failure in one line, with the user's own line where it came from code outside this package and libraries."""
    source = error.__cause__ if isinstance(error, MtlSearchError) else error
    if source is None:
        return str(error)
    frames = traceback.extract_tb(source.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((*_LIBRARIES, "<"))]
    words = str(error) if isinstance(error, MtlSearchError) else f"{type(error).__name__}: {error}"
    if not own and isinstance(error, MtlSearchError):
        return words
    frame = (own or frames)[-1]
    words = f"{words} ({Path(frame.filename).name}:{frame.lineno})"
    return f"{words}; {LESS_MEMORY}" if lacks_memory(source) else words
