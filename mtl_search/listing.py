"""Listing: the families as text for ``list`` and as JSON Schema for ``schema``, both read off the constructors."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from pydantic import TypeAdapter

from mtl_search.binding import SCHEDULE_FAMILIES, Families, Family, signature_of, spread_of
from mtl_search.config import StudyConfig
from mtl_search.errors import NOTHING, ConfigError, Problem
from mtl_search.recipe import Schedule
from mtl_search.space import COMPONENTS, SCHEDULES

_DOMAIN = {"$ref": "#/$defs/Domain"}
_NUMBERS = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}


def describe_families(families: Families, only: str | None = None) -> Iterator[str]:
    """Lines that show each variant with its parameters, defaults and paper.

    Raises:
        ConfigError: There is no such family.
    """
    if only is not None and only not in families:
        raise ConfigError([Problem("family", "must be a family", only, tuple(families))])
    for name, family in families.items():
        if only in (None, name):
            yield f"{name}"
            for variant, constructor in family.items():
                yield from _describe(variant, constructor)


def _describe(name: str, constructor: Callable[..., Any]) -> Iterator[str]:
    lines = (inspect.getdoc(constructor) or "").splitlines()
    yield f"  {name}: {lines[0] if lines else ''}"
    for parameter, (annotation, default) in signature_of(constructor).items():
        shown = "required" if default is inspect.Parameter.empty else f"default {default!r}"
        yield f"      {parameter}: {_type_words(annotation)}, {shown}"
    yield from (f"      {line.strip()}" for line in lines if line.strip().startswith("Paper: "))


def _type_words(annotation: Any) -> str:
    if spread_of(annotation) is not None:
        return "a number, or one per task"
    base, *marks = get_args(annotation) if hasattr(annotation, "__metadata__") else (annotation,)
    bounds = []
    for mark in marks:
        signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
        bounds += [
            f"{sign} {getattr(mark, key)}" for key, sign in signs.items() if getattr(mark, key, None) is not None
        ]
    words = getattr(base, "__name__", None) if isinstance(base, type) else str(base).replace("typing.", "")
    return f"{words} {' and '.join(bounds)}".strip()


def study_schema(families: Families) -> dict[str, Any]:
    """JSON Schema of a study file, variants and domains included."""
    schema = StudyConfig.model_json_schema()
    definitions = schema["$defs"]
    definitions["Domain"] = {
        "description": "A value that the search samples.",
        "oneOf": [
            {
                "properties": {"float": _NUMBERS, "log": {"type": "boolean"}, "default": {"type": "number"}},
                "required": ["float"],
            },
            {
                "properties": {"int": _NUMBERS, "log": {"type": "boolean"}, "default": {"type": "integer"}},
                "required": ["int"],
            },
            {"properties": {"choice": {"type": "array", "minItems": 1}, "default": {}}, "required": ["choice"]},
        ],
    }
    for item in definitions["Domain"]["oneOf"]:
        item |= {"type": "object", "additionalProperties": False}
    for name, family in families.items():
        definitions[f"{name}_variant"] = _variant_schema(family, searched=name in _searched())
    sections = {name: _one_or_list(name) for name in COMPONENTS}
    schedule = {"$ref": "#/$defs/Schedule"}
    definitions["Schedule"] = _schedule_schema()
    schema["properties"]["space"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": sections | dict.fromkeys(SCHEDULES, schedule),
    }
    for section, key, family_name in (
        ("DataConfig", "source", "source"),
        ("SearchConfig", "sampler", "sampler"),
        ("SearchConfig", "stopper", "stopper"),
    ):
        definitions[section]["properties"][key] = {"$ref": f"#/$defs/{family_name}_variant"}
    definitions["DataConfig"]["properties"]["sources"] = {
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/source_variant"},
    }
    for key in ("backbone", "base"):
        schema["properties"][key] = {"$ref": f"#/$defs/{key}_variant"}
    return schema


def _searched() -> set[str]:
    return {*COMPONENTS, *SCHEDULE_FAMILIES.values()}


def _one_or_list(family: str) -> dict[str, Any]:
    one = {"$ref": f"#/$defs/{family}_variant"}
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


def _variant_schema(family: Family, *, searched: bool) -> dict[str, Any]:
    """A variant by name alone, or with its parameters; a user's own as ``package.module:Name``."""
    own = {"type": "string", "pattern": "^[^:]+:[^:]+$"}
    options: list[dict[str, Any]] = [{"enum": list(family)}, own]
    for name, constructor in family.items():
        parameters: dict[str, Any] = {}
        required = []
        for parameter, (annotation, default) in signature_of(constructor).items():
            value = TypeAdapter(annotation).json_schema() if annotation is not Any else {}
            if default is inspect.Parameter.empty:
                required.append(parameter)
            elif default is not NOTHING:
                value = {**value, "default": default}
            parameters[parameter] = {"anyOf": [value, _DOMAIN]} if searched else value
        inner = {"type": ["object", "null"], "properties": parameters, "additionalProperties": False}
        if required:
            inner["required"] = required
        options.append(_single(name, inner))
    options.append({"type": "object", "patternProperties": {"^[^:]+:[^:]+$": {}}, "additionalProperties": False})
    return {"anyOf": options}


def _single(name: str, inner: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: inner}, "required": [name], "additionalProperties": False}


def _schedule_schema() -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for name, (annotation, default) in signature_of(Schedule).items():
        if name in SCHEDULE_FAMILIES:
            parameters[name] = _one_or_list(SCHEDULE_FAMILIES[name])
        else:
            value = TypeAdapter(annotation).json_schema() | {"default": default}
            parameters[name] = {"anyOf": [value, _DOMAIN]}
    return {"type": "object", "properties": parameters, "additionalProperties": False}
