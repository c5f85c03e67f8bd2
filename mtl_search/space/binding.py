"""Binding: what a study file writes for a variant -> the parameters of its constructor, checked.

A constructor's signature is its schema. Fixed values and the ends of domains are held against the annotations
(pydantic does the checking), defaults are filled in, and whatever no constructor takes is a problem.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mtl_search.errors import NOTHING, ConfigError, Problem, joined_rules
from mtl_search.recipe import Component, Schedule, Spread
from mtl_search.space.domains import DOMAIN_FORMS, Branches, Node, is_domain, parse_domain
from mtl_search.variants.building import variant
from mtl_search.variants.registry import Registry
from mtl_search.variants.signatures import Parameters, signature_of

Family = Registry[Any]
Families = Mapping[str, Family]
SCHEDULE_FAMILIES = {"optimizer": "optimizer", "decay": "decay", "unfreezing": "unfreezing"}
_STRICT = ConfigDict(arbitrary_types_allowed=True, strict=True, allow_inf_nan=False)
_MISSING = inspect.Parameter.empty


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
        tasks: Names that a per-task domain is spread over; none where they are not known, and then any name goes.
        problems: Grows by what is wrong.
    """
    if is_domain(raw):
        problems.append(Problem(place, "must be a variant, or a list of variants to choose from", raw, tuple(family)))
        return Branches({})
    options: dict[str, Node] = {}
    entries = raw if isinstance(raw, list) else [raw]
    if not entries:
        problems.append(Problem(place, "must hold at least one variant", raw, tuple(family)))
    for index, entry in enumerate(entries):
        where = f"{place}[{index}]" if isinstance(raw, list) else place
        if isinstance(entry, str):
            entry = {entry: None}
        if not isinstance(entry, Mapping) or len(entry) != 1 or not isinstance(next(iter(entry)), str):
            rule = "must be a variant's name, or a mapping of one name to its parameters"
            problems.append(Problem(where, rule, entry, tuple(family)))
            continue
        ((name, params),) = entry.items()
        if name in options:
            problems.append(Problem(where, "must be listed once", name))
        options[name] = bind_params(name, params, family, place, tasks, problems)
    return Branches(options)


def bind_schedule(
    raw: Any, families: Families, place: str, tasks: Sequence[str], problems: list[Problem]
) -> dict[str, Node]:
    """Bind a schedule: its own numbers and the variants inside it."""
    if not isinstance(raw, Mapping):
        problems.append(Problem(place, "must be a mapping", raw, tuple(field.name for field in fields(Schedule))))
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
    signature = _readable_signature(name, family, place, problems)
    if signature is None:
        return {}
    place = f"{place}.{name}"
    params = {} if params is None else params
    if not isinstance(params, Mapping):
        problems.append(Problem(place, "must be a mapping of parameters", params, tuple(signature)))
        return {}
    for key in params:
        if key not in signature:
            owners = [other for other in family if other != name and key in family.describe(other).parameters]
            rule = f"is a parameter of {owners[0]}, not of {name}" if owners else f"is not a parameter of {name}"
            problems.append(Problem(f"{place}.{key}", rule, NOTHING, tuple(signature)))
    nodes: dict[str, Node] = {}
    for key, (annotation, default) in signature.items():
        where = f"{place}.{key}"
        if key in params and domains:
            nodes[key] = _bind_value(params[key], annotation, default, where, tasks, problems)
        elif key in params:
            nodes[key] = _bind_fixed(params[key], annotation, where, problems)
        elif default is _MISSING:
            problems.append(Problem(where, "is required"))
        else:
            nodes[key] = default
    return nodes


def _readable_signature(name: str, family: Family, place: str, problems: list[Problem]) -> Parameters | None:
    if name in family:
        return family.describe(name).parameters
    try:
        return signature_of(variant(family, name, place))
    except ConfigError as error:
        problems += error.problems
    except (TypeError, ValueError, NameError) as error:  # of a user's own variant
        rule = f"must name something whose parameters can be read off ({type(error).__name__}: {error})"
        problems.append(Problem(place, rule, name))
    return None


def _bind_fixed(raw: Any, annotation: Any, place: str, problems: list[Problem]) -> Any:
    found: list[Problem] = []
    value = _checker(annotation, found)(raw, place)
    if found and is_domain(raw):  # a mapping may be just what the parameter takes
        found = [Problem(place, "must be a fixed value here (domains belong in space)", raw)]
    problems += found
    return value


def _bind_value(
    raw: Any, annotation: Any, default: Any, place: str, tasks: Sequence[str], problems: list[Problem]
) -> Node:
    spread = spread_of(annotation)
    if spread is not None and (tasks or (isinstance(raw, Mapping) and not is_domain(raw))):
        return _bind_spread(raw, annotation, spread, default, place, tasks, problems)
    check = _checker(annotation, problems, DOMAIN_FORMS)
    return parse_domain(raw, place, check, default, problems) if is_domain(raw) else check(raw, place)


def _bind_spread(
    raw: Any, annotation: Any, spread: Spread, default: Any, place: str, tasks: Sequence[str], problems: list[Problem]
) -> Node:
    number, known = get_args(get_args(annotation)[0])[0], bool(tasks)
    tasks = tasks[1:] if spread.skip_first else tasks
    if is_domain(raw):
        domain = parse_domain(raw, place, _checker(number, problems), default, problems)
        return dict.fromkeys(tasks, domain)
    if not isinstance(raw, Mapping):
        return _checker(number, problems, DOMAIN_FORMS, "a mapping of tasks to those", always=True)(raw, place)
    check = _checker(number, problems, DOMAIN_FORMS)
    nodes: dict[str, Node] = {}
    for task, value in raw.items():
        where = f"{place}.{task}"
        if known and task not in tasks:
            rule = "must name a task" + (" after the first, which is the reference" if spread.skip_first else "")
            problems.append(Problem(where, rule, task, tuple(tasks)))
        elif is_domain(value):
            nodes[task] = parse_domain(value, where, check, default, problems)
        else:
            nodes[task] = check(value, where)
    return nodes


def _checker(annotation: Any, problems: list[Problem], *also: str, always: bool = False) -> Callable[[Any, str], Any]:
    """A function that holds one value against an annotation and says what is wrong.

    Args:
        annotation: Of a constructor's parameter.
        problems: Grows by what is wrong.
        also: What else the value could have been, told for a mapping.
        always: Whether that is told for any value of a wrong type.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=_STRICT)

    def check(value: Any, place: str) -> Any:
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            failures = error.errors(include_url=False)
            forms = also if always or isinstance(value, Mapping) else ()
            problems.append(Problem(place, joined_rules(failures, *forms), value))
            return value

    return check
