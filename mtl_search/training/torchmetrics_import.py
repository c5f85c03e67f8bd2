"""Imports torchmetrics without what it wants for plots, sound and texts: SciPy's signal processing and other libraries.

They take longer than all else that a worker imports beside torch, and tens of megabytes in every process. All are
optional for torchmetrics, so it is imported as where they are not installed. Its plots still work: they import
Matplotlib when they are drawn.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from unittest.mock import patch

from lightning_utilities.core import imports

_UNUSED = ("matplotlib", "scipy", "transformers")
_NAME = re.compile(r"[\w-]+")  # of a requirement such as ``scipy>=1.0``


class _Pyplot:
    """Stands for ``matplotlib.pyplot``, and imports it when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module("matplotlib.pyplot"), name)


@contextmanager
def _without_unused() -> Iterator[None]:
    """A block in which torchmetrics is told that the unused libraries are not installed."""
    is_available, is_package = imports.RequirementCache.__bool__, imports.package_available

    def available(self: imports.RequirementCache) -> bool:
        name = _NAME.match(self.requirement or "")
        return not (name and name[0] in _UNUSED) and is_available(self)

    def package(name: str) -> bool:
        return name not in _UNUSED and is_package(name)

    with (
        patch.object(imports.RequirementCache, "__bool__", available),
        patch.object(imports, "package_available", package),
    ):
        yield


if "torchmetrics" in sys.modules:
    import torchmetrics
else:
    with _without_unused():
        import torchmetrics
    import_module("torchmetrics.utilities.plot").plt = _Pyplot()  # type: ignore[attr-defined]

Metric = torchmetrics.Metric

__all__ = ["Metric", "torchmetrics"]
