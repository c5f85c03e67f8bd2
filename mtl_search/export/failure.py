"""What can go wrong in an export, and how the libraries that it drives are kept quiet.

Every other file of this folder uses it: torch.export, the ONNX exporter and MLflow all talk on the streams that belong
to the command line's own lines.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from mtl_search.errors import MtlSearchError

_log = logging.getLogger(__name__)


class ExportError(MtlSearchError):
    """The winner cannot be exported, its files do not predict what it predicts, or it cannot be registered."""


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Keep the block's stdout, stderr and warnings from the user; they go to this module's logger."""
    heard = io.StringIO()
    exporter = logging.getLogger("torch.onnx")  # its handler holds the stderr of when torch was imported
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(heard), redirect_stderr(heard):
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
        if text := heard.getvalue().strip():
            _log.debug("%s", text)


@contextmanager
def explain_failure(what: str) -> Iterator[None]:
    """Turn whatever a library raises in the block into an `ExportError` that begins with ``what``; keeps it quiet.

    Raises:
        ExportError: The block failed.
    """
    try:
        with silence_libraries():
            yield
    except MtlSearchError:
        raise
    except Exception as error:  # exporters and stores raise their own kinds and those of what they stand on
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        raise ExportError(f"{what} ({type(error).__name__}: {reason})") from error
