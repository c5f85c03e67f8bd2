"""Variants: from a component's name to the constructor in its family, or a user's own, and to what it constructs."""

import copy
import importlib
import inspect
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from mtl_search.errors import ConfigError, MtlSearchError, Problem
from mtl_search.recipe import Component
from mtl_search.variants.python_objects import is_object, python_object

T = TypeVar("T")
Equal = tuple[type[T], Mapping[str, Any]]
"""A class of a family and parameters of its constructor; those left out have their defaults."""
_LIBRARIES = [Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
_OWN_PACKAGE = __name__.partition(".")[0]


def is_library(module: str) -> bool:
    """Whether an imported module is of this package, of a library or of Python itself, and not a user's own."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or module.partition(".")[0] == _OWN_PACKAGE:
        return module in sys.builtin_module_names or file is not None
    return any(Path(file).resolve().is_relative_to(place) for place in _LIBRARIES)


def import_object(name: str, place: str) -> Any:
    """Import a user's ``package.module:Name``.

    Args:
        name: The dotted module, a colon, and the attribute.
        place: Key path for the error.

    Raises:
        ConfigError: The module cannot be imported or lacks the attribute.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ConfigError([Problem(place, "must be of the form package.module:name", name)])
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # user code: whatever it raises while importing is the user's to read
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError([Problem(place, f"must name a module that can be imported ({reason})", name)]) from error
    if not hasattr(module, attribute):
        raise ConfigError([Problem(place, f"must name something in module {module_name}", name)])
    return getattr(module, attribute)


def variant(family: Mapping[str, Callable[..., T]], name: str, place: str) -> Callable[..., T]:
    """The constructor behind a variant's name.

    Raises:
        ConfigError: The family has no such variant, or a user's own is not what the family is made of.
    """
    if is_object(name):
        return _given(family, name, place)
    if ":" in name:
        return _own(family, name, place)
    if name not in family:
        raise ConfigError([Problem(place, "must be a known variant or package.module:Name", name, tuple(family))])
    return family[name]


def _base_of(family: Mapping[str, Callable[..., T]]) -> type | None:
    """What the classes of a family are derived from."""
    lineage = getattr(next(iter(family.values())), "__mro__", ())
    return next((ancestor for ancestor in reversed(lineage) if inspect.isabstract(ancestor)), None)


def _given(family: Mapping[str, Callable[..., T]], name: str, place: str) -> Callable[..., T]:
    """An object that a user handed over; each use gets a copy of its own, for it may come to hold a job's state."""
    found, base = python_object(name, place), _base_of(family)
    if base is not None and not isinstance(found, base):
        rule = f"must be an object of a class derived from {base.__module__}.{base.__name__}"
        raise ConfigError([Problem(place, rule, name)])

    def fresh() -> T:
        return copy.deepcopy(found)  # type: ignore[return-value]

    return fresh


def _own(family: Mapping[str, Callable[..., T]], name: str, place: str) -> Callable[..., T]:
    """A user's own variant: a class like those of the family."""
    found, base = import_object(name, place), _base_of(family)
    if base is None:
        if not callable(found):
            raise ConfigError([Problem(place, "must name a class or a function", name)])
    elif not (inspect.isclass(found) and issubclass(found, base)):
        raise ConfigError([Problem(place, f"must name a class derived from {base.__module__}.{base.__name__}", name)])
    elif lacking := sorted(getattr(found, "__abstractmethods__", ())):
        rule = f"must name a class that has all of its methods (it lacks {', '.join(lacking)})"
        raise ConfigError([Problem(place, rule, name)])
    return found  # type: ignore[no-any-return]


def build(family: Mapping[str, Callable[..., T]], component: Component) -> T:
    """Construct the variant that a component names.

    Args:
        family: Constructor by name.
        component: Name and parameters.

    Raises:
        ConfigError: There is no such variant, or a user's own does not take these parameters.
    """
    constructor = variant(family, component.name, component.name)
    if ":" not in component.name:
        return constructor(**component.params)
    try:
        return constructor(**component.params)
    except MtlSearchError:
        raise
    except Exception as error:  # user code: whatever its constructor raises is the user's to read
        rule = f"must take these parameters ({type(error).__name__}: {error})"
        raise ConfigError([Problem(component.name, rule, dict(component.params))]) from error
