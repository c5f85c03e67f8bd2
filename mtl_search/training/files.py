"""Files written whole or not at all; plain JSON, read back without running code. Imports no torch."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESULT_FILE = "result.json"
"""In the folder of a stage that has ended: what it came to."""
STOPPED_FILE, STOPPED_MODEL_FILE = "stopped.json", "stopped.safetensors"
"""In the folder of a joint stage that was stopped early: what it had come to, and its best model by then."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to, and put it in place if the block succeeds.

    A reader, or a kill in between, sees the old content or the new, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def leftovers(path: Path) -> list[Path]:
    """Temporary files that kills in the middle of ``replacing`` left beside ``path``."""
    return list(path.parent.glob(f".{path.name}.{'[0-9a-f]' * 32}"))


def write_json(path: Path, data: Any) -> None:
    """Write plain JSON values atomically; NaN and infinities are kept."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1), encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read plain JSON values."""
    return json.loads(path.read_text(encoding="utf-8"))
