"""Quiet: what Ray, Optuna, MLflow and other libraries print is kept from the user.

A running study writes it to its log file. Commands that only read a study drop it.
"""

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import TextIO

from mtl_search.errors import MtlSearchError


@contextmanager
def redirect_output(log: Path, past: int = 1) -> Iterator[TextIO]:
    """Send standard output and error of this process to a file for a while.

    It works on file descriptors, since some of it is printed by C++ code and by threads of other libraries.

    Args:
        log: Grows by what is printed.
        past: What the user should see goes here, 1 for standard output, 2 for standard error.

    Yields:
        A stream to that as it was.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with log.open("a", encoding="utf-8") as file, os.fdopen(os.dup(kept[past - 1]), "w", encoding="utf-8") as user:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        logging.captureWarnings(capture=True)
        try:
            with warnings.catch_warnings():
                yield user
        finally:
            logging.captureWarnings(capture=False)
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):  # the log's disk may be full
                    stream.flush()
            for number, descriptor in enumerate(kept, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Drop log lines and warnings that other libraries write to standard error in the block.

    This package's own loggers still write there. If the block raises an unexpected error, everything that was dropped
    is written first, because it may contain the cause.
    """
    user, heard, own = sys.stderr, io.StringIO(), logging.getLogger("mtl_search")
    to_user = logging.StreamHandler(user)
    own.addHandler(to_user)
    try:
        with redirect_stderr(heard):
            yield
    except Exception as error:
        if not isinstance(error, MtlSearchError | BrokenPipeError):
            user.write(heard.getvalue())
        raise
    finally:
        own.removeHandler(to_user)
