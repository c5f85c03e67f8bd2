"""Signatures: what a variant's constructor takes, from the class itself or from the text of its module.

Most variants compute with PyTorch, whose import takes a second. To list variants, to print the schema and to check the
parameters in a study file, only docstrings, annotations and defaults are needed. `describe_source` reads them from the
module's text and imports only what annotations and defaults name.
"""

import ast
import builtins
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, get_type_hints

Parameters = dict[str, tuple[Any, Any]]
"""Annotation and default by parameter; the default is ``inspect.Parameter.empty`` where there is none."""
_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class Description:
    """What a user may know of a variant before it is imported.

    Attributes:
        text: Its docstring, indentation removed.
        parameters: Every parameter of its constructor.
    """

    text: str
    parameters: Parameters


def signature_of(constructor: Callable[..., Any]) -> Parameters:
    """Annotation and default of every parameter that a study file may set.

    Args:
        constructor: A class or a function.
    """
    function = constructor.__init__ if inspect.isclass(constructor) else constructor
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(constructor).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return {p.name: (hints.get(p.name, Any), p.default) for p in named}


@cache
def describe_source(module: str, name: str) -> Description:
    """Describe a class of this package from the text of its module.

    Args:
        module: Dotted name of the module.
        name: Name of the class.

    Raises:
        NameError: The class, or a name in its signature, is not in the text of the module.
    """
    lineage = list(_lineage(_Source.of(module), name))
    texts = (ast.get_docstring(node) for _, node in lineage)
    return Description(next((text for text in texts if text is not None), ""), _parameters(lineage))


class _Source:
    """The text of a module.

    Attributes:
        classes: Each class that the module defines, by name.
    """

    def __init__(self, module: str) -> None:
        spec = importlib.util.find_spec(module)
        text = None if spec is None or spec.loader is None else spec.loader.get_source(module)  # type: ignore[attr-defined]
        self.classes: dict[str, ast.ClassDef] = {}
        self._module = module
        self._imported: dict[str, tuple[str, str]] = {}
        self._assigned: dict[str, ast.expr] = {}
        for node in ast.parse(text or "").body:
            if isinstance(node, ast.ClassDef):
                self.classes[node.name] = node
            elif isinstance(node, ast.Import):
                self._imported |= {alias.asname or alias.name: (alias.name, "") for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                self._imported |= {a.asname or a.name: (node.module or "", a.name) for a in node.names}
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self._assigned[node.targets[0].id] = node.value

    @classmethod
    @cache
    def of(cls, module: str) -> "_Source":
        """The text of a module, read once."""
        return cls(module)

    def home_of(self, name: str) -> "tuple[_Source, str] | None":
        """The module of this package that defines a class, and the class's name there; None for a library's class."""
        if name in self.classes:
            return self, name
        module, original = self._imported.get(name, ("", ""))
        return _Source.of(module).home_of(original) if module.partition(".")[0] == _PACKAGE else None

    def value_of(self, node: ast.expr) -> Any:
        """The value of an expression in the module, such as an annotation or a default."""
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        known = {name: self._named(name) for name in names if not hasattr(builtins, name)}
        code = compile(ast.Expression(node), self._module, "eval")
        return eval(code, known)  # noqa: S307  (this package's own text)

    def _named(self, name: str) -> Any:
        if self._module in sys.modules:
            return getattr(sys.modules[self._module], name)
        if name in self._assigned:
            return self.value_of(self._assigned[name])
        if name not in self._imported:
            raise NameError(f"{self._module} has no {name}")
        module, original = self._imported[name]
        if not original:
            return import_module(module)
        inside = _Source.of(module) if module.partition(".")[0] == _PACKAGE else None
        if inside is not None and original in inside._assigned:
            return inside._named(original)
        return getattr(import_module(module), original)


def _lineage(source: _Source, name: str) -> Iterator[tuple[_Source, ast.ClassDef]]:
    """A class and those of this package that it is derived from, the nearest first."""
    home = source.home_of(name)
    if home is None:
        return
    source, name = home
    node = source.classes[name]
    yield source, node
    for base in node.bases:
        while isinstance(base, ast.Subscript):
            base = base.value
        if isinstance(base, ast.Name):
            yield from _lineage(source, base.id)


def _parameters(lineage: list[tuple[_Source, ast.ClassDef]]) -> Parameters:
    """Parameters of the constructor that the first class has or inherits."""
    for source, node in lineage:
        if any("dataclass" in ast.dump(decorator) for decorator in node.decorator_list):
            return _fields(source, node)
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                return _arguments(source, item.args)
    return {}


def _fields(source: _Source, node: ast.ClassDef) -> Parameters:
    """The fields of a dataclass."""
    found = {}
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            default = inspect.Parameter.empty if item.value is None else source.value_of(item.value)
            found[item.target.id] = (source.value_of(item.annotation), default)
    return found


def _arguments(source: _Source, arguments: ast.arguments) -> Parameters:
    """The arguments of a constructor, without ``self``."""
    positional = [*arguments.posonlyargs, *arguments.args]
    lacking = len(positional) - len(arguments.defaults)
    defaults = [*[None] * lacking, *arguments.defaults, *arguments.kw_defaults]
    return {
        argument.arg: (
            Any if argument.annotation is None else source.value_of(argument.annotation),
            inspect.Parameter.empty if default is None else source.value_of(default),
        )
        for argument, default in list(zip([*positional, *arguments.kwonlyargs], defaults, strict=True))[1:]
    }
