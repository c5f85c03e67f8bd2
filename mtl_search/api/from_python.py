"""Handing over: a study as a user writes it in Python, with objects in it -> plain values, and the objects by name.

First hop of the Python API: what comes out has the form of a study file, and goes the way of one from there on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from torch import nn

from mtl_search.data.sources.base import SPLITS, Source
from mtl_search.data.sources.rows import Rows
from mtl_search.errors import ConfigError, Problem, ProblemsError
from mtl_search.models.backbones.base import Backbone
from mtl_search.models.backbones.blocks import Blocks
from mtl_search.recipe import Component
from mtl_search.space.binding import SCHEDULE_FAMILIES
from mtl_search.space.search_space import COMPONENTS, SCHEDULES
from mtl_search.variants.content_hash import content_hash
from mtl_search.variants.python_objects import PREFIX

_DATA_KEYS = {"source", "sources", "split", "stream"}
Wrap = Callable[[Any, str], object]


@dataclass
class PythonStudy:
    """A study in the form of a study file, and what its names for objects stand for.

    Attributes:
        plain: Sections, nothing but plain values in them.
        objects: Object by name.
    """

    plain: dict[str, Any]
    objects: dict[str, object] = field(default_factory=dict)


def from_python(study: Mapping[str, Any]) -> PythonStudy:
    """Give every object of a study a name that tells its content.

    Args:
        study: Sections as in a study file. ``backbone`` may be blocks or a ``Backbone``, ``data`` (or a source in it)
            rows in memory, and wherever ``space`` takes a variant it may be an object of the family's class.

    Raises:
        ConfigError: A value is neither plain nor an object that fits its place; every such place.
        DataError: Rows are of no known form.
    """
    writer = _Writer()
    plain = {str(name): writer.section(str(name), value) for name, value in study.items()}
    if writer.problems:
        raise ConfigError(writer.problems)
    return PythonStudy(plain, writer.objects)


def name_of(value: object, place: str) -> str:
    """The name of an object, e.g. ``object:ByLoss-1f0c66ab5d2e``.

    Raises:
        ConfigError: It has no content of its own.
    """
    return f"{PREFIX}{type(value).__name__}-{content_hash(value, place)}"


def as_backbone(value: Any, place: str = "backbone") -> Backbone:
    """Blocks that a user has, as a backbone.

    Raises:
        ConfigError: It is neither a backbone nor modules in order.
    """
    if isinstance(value, Backbone):
        return value
    if isinstance(value, list | tuple | nn.Sequential | nn.ModuleList):
        return Blocks(value)
    rule = "must be blocks in order: a list of modules, nn.Sequential, nn.ModuleList, or a Backbone"
    raise ConfigError([Problem(place, rule, type(value).__name__)])


def _as_source(value: Any, place: str) -> Source:
    return value if isinstance(value, Source) else Rows(value)


def _as_is(value: Any, place: str) -> object:
    if isinstance(value, type):
        rule = "must be an object of the class, not the class itself"
        raise ConfigError([Problem(place, rule, value.__name__)])
    return value


class _Writer:
    """Writes values down plainly, and keeps the objects that stand in the places of variants."""

    def __init__(self) -> None:
        self.objects: dict[str, object] = {}
        self.problems: list[Problem] = []

    def section(self, name: str, value: Any) -> Any:
        if name == "backbone":
            return self._variant(value, name, as_backbone)
        if name == "data":
            return self._data(value)
        if name == "space" and isinstance(value, Mapping):
            return {str(part): self._part(str(part), inner) for part, inner in value.items()}
        return self._plain(value, name)

    def _data(self, value: Any) -> Any:
        if not isinstance(value, Mapping) or not value.keys() <= _DATA_KEYS:
            return value if isinstance(value, str) else {"source": self._source(value, "data")}
        written = {}
        for key, inner in value.items():
            place = f"data.{key}"
            if key == "source":
                written[key] = self._source(inner, place)
            elif key == "sources" and isinstance(inner, Mapping):
                written[key] = {str(name): self._source(each, f"{place}.{name}") for name, each in inner.items()}
            else:
                written[key] = self._plain(inner, place)
        return written

    def _source(self, value: Any, place: str) -> Any:
        """A source's variant, or rows: splits by name, or columns."""
        if isinstance(value, Mapping) and value and not _names_a_variant(value):
            splits = value.keys() <= set(SPLITS)
            return self._object(value, place, lambda rows, _: Rows(**rows) if splits else Rows(rows))
        return self._variant(value, place, _as_source)

    def _part(self, name: str, value: Any) -> Any:
        place = f"space.{name}"
        if name in COMPONENTS:
            return self._variants(value, place)
        if name in SCHEDULES and isinstance(value, Mapping):
            return {
                str(key): self._variants(inner, f"{place}.{key}")
                if key in SCHEDULE_FAMILIES
                else self._plain(inner, f"{place}.{key}")
                for key, inner in value.items()
            }
        return self._plain(value, place)

    def _variants(self, value: Any, place: str) -> Any:
        if isinstance(value, list | tuple):
            return [self._variant(each, f"{place}[{number}]", _as_is) for number, each in enumerate(value)]
        return self._variant(value, place, _as_is)

    def _variant(self, value: Any, place: str, wrap: Wrap) -> Any:
        if value is None or isinstance(value, str | Mapping | Component | bool | int | float):
            return self._plain(value, place)
        return self._object(value, place, wrap)

    def _object(self, value: Any, place: str, wrap: Wrap) -> str | None:
        try:
            wrapped = wrap(value, place)
            name = name_of(wrapped, place)
        except ConfigError as error:
            self.problems += error.problems
            return None
        except ProblemsError as error:
            raise type(error)(
                [Problem(f"{place}.{p.place}", p.rule, p.value, p.choices) for p in error.problems]
            ) from error
        self.objects[name] = wrapped
        return name

    def _plain(self, value: Any, place: str) -> Any:
        """The value as YAML could have said it."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Component):
            return self._plain(value.to_dict(), place)
        if isinstance(value, Mapping):
            return {key: self._plain(inner, f"{place}.{key}") for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._plain(inner, f"{place}[{number}]") for number, inner in enumerate(value)]
        if isinstance(value, PurePath):
            return str(value)
        if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a number of numpy's or torch's
            return value.item()
        rule = "must be a plain value: objects stand for a backbone, for data, or for a whole variant of the space"
        self.problems.append(Problem(place, rule, type(value).__name__))
        return None


def _names_a_variant(value: Mapping[Any, Any]) -> bool:
    """Whether a mapping is ``{name: parameters}``; else it holds rows."""
    name, inner = next(iter(value.items()))
    return len(value) == 1 and name not in SPLITS and (inner is None or isinstance(inner, Mapping))
