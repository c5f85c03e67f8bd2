"""Objects: what a user hands over in Python instead of a variant's name, known by a name that tells its content.

`api` gives every object such a name (``object:ByLoss-1f0c66ab5d2e``), which is all that recipes, files and MLflow hold.
The objects themselves travel to the workers with the workload, and `variants` finds them here.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mtl_search.errors import ConfigError, Problem

PREFIX = "object:"
Objects = Mapping[str, object]
_KNOWN: dict[str, object] = {}
"""Object by name. A name tells the content, so what one study leaves here can never be wrong for another."""


def is_object(name: str) -> bool:
    """Whether a variant's name is that of an object."""
    return name.startswith(PREFIX)


@contextmanager
def use_objects(objects: Objects) -> Iterator[None]:
    """Let components name these objects while the block runs."""
    before = dict(_KNOWN)
    _KNOWN.update(objects)
    try:
        yield
    finally:
        _KNOWN.clear()
        _KNOWN.update(before)


@dataclass(frozen=True)
class PythonObjects:
    """Objects on their way to another process, where components can name them once they have arrived.

    Attributes:
        objects: By name.
    """

    objects: Objects = field(default_factory=dict)

    @classmethod
    def of(cls, names: Iterable[str]) -> "PythonObjects":
        """The objects among some variants.

        Raises:
            ConfigError: Nobody has handed one over in this process.
        """
        return cls({name: python_object(name, name) for name in names if is_object(name)})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _KNOWN.update(self.objects)


NO_OBJECTS = PythonObjects()


def python_object(name: str, place: str) -> object:
    """The object that a name stands for.

    Raises:
        ConfigError: Nobody has handed it over in this process.
    """
    if name not in _KNOWN:
        rule = (
            "needs the Python object that the study was given, which no file holds: in Python, "
            "mtl_search.run_study and train take it again, and open_study(NAME, backbone=..., objects=[...])"
        )
        raise ConfigError([Problem(place, rule, name)])
    return _KNOWN[name]
