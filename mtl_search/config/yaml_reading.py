"""Reading: a study file's text -> plain values -> ``StudyConfig``, or every broken rule of form at once.

First hop of the data path. Nothing in a file is run: only mappings, lists, text, numbers, true, false and null come
out of it.
"""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from mtl_search.config.fields import NAME_RULE
from mtl_search.config.search_config import BaselineConfig, RepeatsConfig, SearchConfig
from mtl_search.config.study_config import (
    ActivationsConfig,
    DataConfig,
    ResourcesConfig,
    SplitConfig,
    StudyConfig,
    TaskConfig,
    TrackingConfig,
)
from mtl_search.errors import NOTHING, ConfigError, Problem, joined_rules, shown
from mtl_search.task_kinds import TASK_KINDS

_SECTIONS: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): StudyConfig,
    ("data",): DataConfig,
    ("data", "split"): SplitConfig,
    ("tasks", "*"): TaskConfig,
    ("source_tasks", "*"): TaskConfig,
    ("search",): SearchConfig,
    ("search", "baseline"): BaselineConfig,
    ("search", "repeats"): RepeatsConfig,
    ("resources",): ResourcesConfig,
    ("resources", "activations"): ActivationsConfig,
    ("tracking",): TrackingConfig,
}
DEFAULTS = "task_defaults"
_STUDY_KEYS = tuple(
    key for name in StudyConfig.model_fields for key in ((name, DEFAULTS) if name == "source_tasks" else (name,))
)
"""Sections of a study file: those of its configuration, and the defaults that ``task_forms`` puts into its tasks."""
_LONG = 100
_STAND_INS = {"name": "study", "backbone": "any"}
STAND_IN_TASK = {"kind": next(name for name, kind in TASK_KINDS.items() if kind.several_targets), "target": "any"}
"""Values under which the rules between the other sections can still be checked."""
_Keys = Callable[[Sequence[Any]], tuple[str, ...]]
"""Keys of the section that a path leads to."""


class _Loader(yaml.SafeLoader):
    """YAML with the plain values of YAML 1.2: ``1e-3`` is a number, while ``no``, ``1:30`` and ``2026-01-01`` are text.

    A key written twice, an anchor that contains itself and any tag beyond plain values are errors.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own form)
    yaml_constructors = {  # noqa: RUF012
        f"tag:yaml.org,2002:{kind}": getattr(yaml.SafeLoader, f"construct_yaml_{kind}")
        for kind in ("null", "bool", "int", "float", "str", "seq", "map")
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        return super().construct_object(node, deep=True)  # deep refuses recursion

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                rule = f"key {key.value!r} is written twice"
                raise yaml.constructor.ConstructorError(None, None, rule, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def refuse(self, node: yaml.Node) -> Any:
        """Raise for a tag that asks for anything but plain values."""
        raise yaml.constructor.ConstructorError(None, None, f"tag {node.tag!r} is refused", node.start_mark)


_Loader.add_constructor(None, _Loader.refuse)
for _kind, _first, _pattern in (
    ("null", "~nN", r"~|null|Null|NULL|"),
    ("bool", "tTfF", r"true|True|TRUE|false|False|FALSE"),
    ("int", "-+0123456789", r"[-+]?(?:0|[1-9][0-9_]*)"),
    (
        "float",
        "-+.0123456789",
        r"(?![-+]?[0-9_]+$)[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    ),
    ("merge", "<", r"<<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^$"), [""])


def read_yaml(path: Path, what: str = "study file") -> object:
    """Read a study file, or one in its form, without running anything in it.

    Raises:
        ConfigError: The file is missing, unreadable or not YAML; the message tells the line.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError([Problem("", f"the {what} must be readable ({reason})", str(path))]) from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ConfigError([Problem("", f"the {what} must be YAML ({path}{line}: {reason})")]) from error
    except (ValueError, KeyError) as error:  # PyYAML reads `!!int x` without a look at x
        raise ConfigError([Problem("", f"the {what} must hold plain values ({path}: {error})")]) from error
    except RecursionError as error:
        raise ConfigError([Problem("", f"the {what} must not be nested so deeply", str(path))]) from error


def with_text_keys(raw: Any, place: str = "") -> tuple[Any, list[Problem]]:
    """Plain values without the keys that YAML does not take for text, such as ``1``, ``true`` and ``null``.

    Args:
        raw: Plain values.
        place: Their key path.

    Returns:
        The values, and a problem for every such key, wherever it stands.
    """
    problems: list[Problem] = []
    if isinstance(raw, list):
        found = [with_text_keys(value, f"{place}[{index}]") for index, value in enumerate(raw)]
        return [value for value, _ in found], [problem for _, some in found for problem in some]
    if not isinstance(raw, Mapping):
        return raw, problems
    kept = {}
    for key, value in raw.items():
        where = f"{place}.{key if isinstance(key, str) else shown(key)}".removeprefix(".")
        if isinstance(key, str):
            kept[key], some = with_text_keys(value, where)
            problems += some
        else:
            problems.append(Problem(where, "must be text, as every key: write it in quotes", key))
    return kept, problems


def parse_config(raw: object) -> tuple[StudyConfig | None, list[Problem]]:
    """Check the form of a study file's plain values.

    Args:
        raw: What YAML gave; a mapping if the file is right.

    Returns:
        The configuration (None where a rule of form is broken) and every problem found.
    """
    if not isinstance(raw, Mapping):
        rule = "the study file must be a mapping of sections" + (", not empty" if raw is None else "")
        return None, [Problem("", rule, NOTHING if raw is None else raw, _STUDY_KEYS)]
    try:
        config = StudyConfig.model_validate(dict(raw))
    except ValidationError as error:
        problems = _problems_of(error, raw, _known_keys)
        return None, problems + _further_problems(error, raw, {problem.place for problem in problems})
    return config, config.cross_problems()


def form_problems(model: type[BaseModel], values: Mapping[str, Any], place: str) -> list[Problem]:
    """Broken rules of form in one section.

    Args:
        model: What the section must be.
        values: Its plain values.
        place: Its key path.
    """
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        known = tuple(model.model_fields)
        found = _problems_of(error, values, lambda _: known)
        return [Problem(f"{place}.{problem.place}", problem.rule, problem.value, problem.choices) for problem in found]
    return []


def _problems_of(error: ValidationError, raw: Mapping[str, Any], known: _Keys) -> list[Problem]:
    """Pydantic's findings with key paths as the user wrote them, one problem a place."""
    by_place: dict[str, list[Any]] = {}
    for entry in error.errors(include_url=False):
        by_place.setdefault(_place(_path(entry, raw)), []).append(entry)
    return [_problem_of(place, entries, raw, known) for place, entries in by_place.items()]


def _problem_of(place: str, entries: Sequence[Any], raw: Mapping[str, Any], known: _Keys) -> Problem:
    first = entries[0]
    path, value, kind = _path(first, raw), first["input"], first["type"]
    if kind == "missing":
        return Problem(place, "is required")
    if kind in ("extra_forbidden", "invalid_key"):
        return Problem(place, "is not a known key", NOTHING, known(path[:-1]))
    if "[key]" in first["loc"]:
        return Problem(place, f"its name {NAME_RULE}", path[-1])
    if isinstance(value, Mapping) and len(str(value)) > _LONG:
        value = list(value)
    return Problem(place, joined_rules(entries), value, known(path) if kind == "model_type" else ())


def _path(entry: Any, raw: Mapping[str, Any]) -> list[Any]:
    """The keys that lead to a finding in the file; what pydantic adds for its own branches is left out."""
    path: list[Any] = []
    node: Any = raw
    for part in entry["loc"]:
        if isinstance(node, list) and isinstance(part, int):
            path.append(f"[{part}]")
            node = node[part]
        elif isinstance(node, Mapping) and (found := [key for key in node if str(key) == str(part)]):
            path.append(found[0])
            node = node[found[0]]
        else:
            return [*path, entry["loc"][-1]] if entry["type"] == "missing" else path
    return path


def _place(path: Sequence[Any]) -> str:
    return "".join(str(part) if str(part).startswith("[") else f".{part}" for part in path).removeprefix(".")


def _known_keys(path: Sequence[Any]) -> tuple[str, ...]:
    """Keys of the section that a path leads to."""
    if not path:
        return _STUDY_KEYS
    if len(path) == 2 and path[0] in ("tasks", "source_tasks"):
        path = (path[0], "*")
    return tuple(_SECTIONS[tuple(path)].model_fields)


def _further_problems(error: ValidationError, raw: Mapping[str, Any], told: set[str]) -> list[Problem]:
    """Broken rules between sections, where what is broken in form can be left out without changing their meaning."""
    rest = copy.deepcopy(dict(raw))
    for entry in error.errors(include_url=False):
        path = _path(entry, raw)
        top = path[0] if path else ""
        if top in _STAND_INS:
            rest[top] = _STAND_INS[top]
        elif entry["type"] in ("extra_forbidden", "invalid_key") or top not in ("data", "tasks"):
            _drop(rest, path)
        elif top == "tasks" and len(path) > 1 and "[key]" not in entry["loc"]:
            task = raw["tasks"][path[1]]
            home = {"data": task["data"]} if isinstance(task, Mapping) and "data" in task else {}
            rest["tasks"][path[1]] = STAND_IN_TASK | home
    try:
        config = StudyConfig.model_validate(rest)
    except ValidationError:
        return []
    return [problem for problem in config.cross_problems() if problem.place not in told]


def _drop(values: Any, path: Sequence[Any]) -> None:
    for key in path[:-1]:
        values = values.get(key)
    if isinstance(values, dict):
        values.pop(path[-1], None)
