"""Binding: what a study file writes for a variant -> the parameters of its constructor, checked.

A constructor's signature is its schema. Fixed values and the ends of domains are held against the annotations
(pydantic does the checking), defaults are filled in, and whatever no constructor takes is a problem.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mtl_search.domains import Branches, Node, is_domain, parse_domain
from mtl_search.errors import NOTHING, ConfigError, Problem
from mtl_search.recipe import Component, Schedule, Spread, variant

Family = Mapping[str, Callable[..., Any]]
Families = Mapping[str, Family]
SCHEDULE_FAMILIES = {"optimizer": "optimizer", "decay": "decay"}
_MISSING = inspect.Parameter.empty


def signature_of(constructor: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Annotation and default of every parameter that a study file may set.

    Returns:
        ``{parameter: (annotation, default)}``; the default is ``inspect.Parameter.empty`` where there is none.
    """
    function = constructor.__init__ if inspect.isclass(constructor) else constructor
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(constructor).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return {p.name: (hints.get(p.name, Any), p.default) for p in named}


def spread_of(annotation: Any) -> Spread | None:
    """The marker of a parameter that may hold one number per task."""
    return next((meta for meta in getattr(annotation, "__metadata__", ()) if isinstance(meta, Spread)), None)


def bind_component(component: Component, family: Family, place: str, problems: list[Problem]) -> Component:
    """Bind a component whose values are all fixed (a backbone, a source, a sampler).

    Args:
        component: As the study file names it.
        family: Constructor by variant's name.
        place: Key path for errors.
        problems: Grows by what is wrong.

    Returns:
        The component with checked values and every default filled in.
    """
    node = bind_params(component.name, component.params, family, place, (), problems, domains=False)
    return Component(component.name, node)


def bind_variants(raw: Any, family: Family, place: str, tasks: Sequence[str], problems: list[Problem]) -> Branches:
    """Bind one variant or a list of variants, in which any parameter may be a domain.

    Args:
        raw: ``name``, ``{name: {...}}``, or a list of those.
        family: Constructor by variant's name.
        place: Key path for errors.
        tasks: Names that a per-task domain is spread over.
        problems: Grows by what is wrong.
    """
    options: dict[str, Node] = {}
    params: Any
    entries = raw if isinstance(raw, list) else [raw]
    if not entries:
        problems.append(Problem(place, "must hold at least one variant", raw, tuple(family)))
    for entry in entries:
        if isinstance(entry, str):
            name, params = entry, None
        elif isinstance(entry, Mapping) and len(entry) == 1:
            name, params = next(iter(entry.items()))
        else:
            rule = "must be a variant's name, or a mapping of one name to its parameters"
            problems.append(Problem(place, rule, entry, tuple(family)))
            continue
        if name in options:
            problems.append(Problem(f"{place}.{name}", "is listed twice"))
        options[str(name)] = bind_params(str(name), params, family, place, tasks, problems)
    return Branches(options)


def bind_schedule(
    raw: Any, families: Families, place: str, tasks: Sequence[str], problems: list[Problem]
) -> dict[str, Node]:
    """Bind a schedule: its own numbers and the variants inside it."""
    if not isinstance(raw, Mapping):
        problems.append(Problem(place, "must be a mapping", raw))
        raw = {}
    hints = get_type_hints(Schedule, include_extras=True)
    known = {f.name: f for f in fields(Schedule)}
    problems += [
        Problem(f"{place}.{key}", "is not a known key", NOTHING, tuple(known)) for key in raw if key not in known
    ]
    nodes: dict[str, Node] = {}
    for name, field in known.items():
        where = f"{place}.{name}"
        if name in SCHEDULE_FAMILIES:
            family = families[SCHEDULE_FAMILIES[name]]
            nodes[name] = bind_variants(raw.get(name, next(iter(family))), family, where, tasks, problems)
        else:
            nodes[name] = _bind_value(raw.get(name, field.default), hints[name], field.default, where, tasks, problems)
    return nodes


def bind_params(
    name: str,
    params: Any,
    family: Family,
    place: str,
    tasks: Sequence[str],
    problems: list[Problem],
    *,
    domains: bool = True,
) -> dict[str, Node]:
    """Bind the parameters of one variant to its constructor's signature."""
    try:
        signature = signature_of(variant(family, name, place))
    except ConfigError as error:
        problems += error.problems
        return {}
    place = f"{place}.{name}"
    params = {} if params is None else params
    if not isinstance(params, Mapping):
        problems.append(Problem(place, "must be a mapping of parameters", params, tuple(signature)))
        return {}
    for key in params:
        if key not in signature:
            owners = [other for other in family if other != name and key in signature_of(family[other])]
            rule = f"is a parameter of {owners[0]}, not of {name}" if owners else f"is not a parameter of {name}"
            problems.append(Problem(f"{place}.{key}", rule, NOTHING, tuple(signature)))
    nodes: dict[str, Node] = {}
    for key, (annotation, default) in signature.items():
        where = f"{place}.{key}"
        if key in params and is_domain(params[key]) and not domains:
            problems.append(Problem(where, "must be a fixed value here (domains belong in space)", params[key]))
        elif key in params:
            nodes[key] = _bind_value(params[key], annotation, default, where, tasks, problems)
        elif default is _MISSING:
            problems.append(Problem(where, "is required"))
        else:
            nodes[key] = default
    return nodes


def _bind_value(
    raw: Any, annotation: Any, default: Any, place: str, tasks: Sequence[str], problems: list[Problem]
) -> Node:
    spread = spread_of(annotation)
    if spread is not None and tasks:
        return _bind_spread(raw, annotation, default, place, tasks[1:] if spread.skip_first else tasks, problems)
    if is_domain(raw):
        return parse_domain(raw, place, _checker(annotation, problems), default, problems)
    return _checker(annotation, problems)(raw, place)


def _bind_spread(
    raw: Any, annotation: Any, default: Any, place: str, tasks: Sequence[str], problems: list[Problem]
) -> Node:
    check = _checker(get_args(get_args(annotation)[0])[0], problems)
    if not tasks:
        problems.append(Problem(place, "has no effect with a single task", raw))
        return default
    if is_domain(raw):
        return {task: parse_domain(raw, f"{place}.{task}", check, default, problems) for task in tasks}
    if not isinstance(raw, Mapping):
        return check(raw, place)
    nodes: dict[str, Node] = {}
    for task, value in raw.items():
        where = f"{place}.{task}"
        if task not in tasks:
            problems.append(
                Problem(where, "must be a task (the first one is the reference of a ratio)", task, tuple(tasks))
            )
        elif is_domain(value):
            nodes[task] = parse_domain(value, where, check, default, problems)
        else:
            nodes[task] = check(value, where)
    return nodes


def _checker(annotation: Any, problems: list[Problem]) -> Callable[[Any, str], Any]:
    """A function that holds one value against an annotation and says what is wrong."""
    adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True, strict=True))

    def check(value: Any, place: str) -> Any:
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            messages = dict.fromkeys(str(entry["msg"]) for entry in error.errors(include_url=False))
            problems.append(Problem(place, " or ".join(messages).replace("Input should be", "must be"), value))
            return value

    return check
