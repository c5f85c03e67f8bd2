"""Processes that tests start, look for and wait for; one that ends meanwhile is no error."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

RAY = str(Path(sys.executable).with_name("ray"))
"""Ray's command line, of this interpreter."""


def title(process: psutil.Process) -> str:
    """What a process calls itself, empty if it is gone."""
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def descendants(words: str, root: psutil.Process | None = None) -> list[psutil.Process]:
    """The processes below a process (this one if none is named) that have these words in their titles."""
    return [each for each in (root or psutil.Process()).children(recursive=True) if words in title(each)]


def wait_for(what: Callable[[], Any], seconds: float = 120) -> Any:
    """The first answer that is not empty; fails if there is none in time."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found
