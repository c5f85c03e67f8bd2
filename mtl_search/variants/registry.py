"""Registry: the variants of a family by name, each imported when it is used and not before.

A family is one `Registry` in the ``__init__`` of its package. A variant is one line there: its name, and the module and
class that it is. Listing the variants and checking the parameters of one import no module of theirs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

from mtl_search.variants.signatures import Description, describe_source

T_co = TypeVar("T_co", covariant=True)


class Registry(Mapping[str, type[T_co]]):
    """The variants of a family.

    Args:
        package: Dotted name of the package that holds the variants.
        variants: Where each variant's class is: ``module:Class``, the module relative to the package.
    """

    def __init__(self, package: str, variants: Mapping[str, str]) -> None:
        parts = {name: home.partition(":") for name, home in variants.items()}
        self._modules = {name: (f"{package}.{module}", kind) for name, (module, _, kind) in parts.items()}

    def __getitem__(self, name: str) -> type[T_co]:
        module, kind = self._modules[name]
        found: type[T_co] = getattr(import_module(module), kind)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    @property
    def modules(self) -> Mapping[str, str]:
        """The module of each variant's class, by the class's name."""
        return {kind: module for module, kind in self._modules.values()}

    def describe(self, name: str) -> Description:
        """What a variant is and takes, without importing it.

        Args:
            name: The variant's name in the family.

        Raises:
            KeyError: The family has no such variant.
        """
        return describe_source(*self._modules[name])


def import_on_use(package: str, names: Mapping[str, Sequence[str]], *families: Registry[Any]) -> Callable[[str], Any]:
    """A package's ``__getattr__``, which imports what the package offers when somebody asks for it.

    Args:
        package: Dotted name of the package.
        names: What the package offers, by the module that defines it, relative to the package.
        families: Registries whose classes the package offers too.
    """
    modules = {name: module for family in families for name, module in family.modules.items()}
    modules |= {name: f"{package}.{module}" for module, offered in names.items() for name in offered}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return get
