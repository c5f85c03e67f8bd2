"""Listing: the families as text for ``list`` and as JSON Schema for ``schema``, both read off the constructors.

The methods page of the documentation is made from ``describe_variant``.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter

from mtl_search.config.study_config import StudyConfig
from mtl_search.config.yaml_reading import DEFAULTS
from mtl_search.data.task_forms import SECTIONS
from mtl_search.errors import ConfigError, Problem, shown
from mtl_search.recipe import LARGEST, Schedule
from mtl_search.space.binding import SCHEDULE_FAMILIES, Families, Family, spread_of
from mtl_search.space.search_space import COMPONENTS, SCHEDULES
from mtl_search.variants.signatures import Description, signature_of

_DOMAIN = {"$ref": "#/$defs/Domain"}
_WORDS = {int: "whole number", float: "number", bool: "true or false", str: "text", NoneType: "null", Any: "anything"}
_ONE_KEY = {"minProperties": 1, "maxProperties": 1}
_OWN = "^[^:]+:[^:]+$"
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
            for variant in family:
                yield from _describe(variant, family.describe(variant))


@dataclass(frozen=True)
class VariantText:
    """What a reader is told of a variant.

    Attributes:
        name: The variant's name in a study file.
        about: What the variant does, in a line.
        parameters: Name, type in words, and default in words of each parameter.
        papers: The papers that the variant is taken from.
    """

    name: str
    about: str
    parameters: tuple[tuple[str, str, str], ...]
    papers: tuple[str, ...]


def describe_variant(name: str, description: Description) -> VariantText:
    """Put what is known of a variant in words.

    Args:
        name: The variant's name in a study file.
        description: As its family gives it.
    """
    lines = description.text.splitlines()
    about = lines[0].replace("``", "") if lines else ""
    parameters = tuple(
        (key, _type_words(annotation), _default_words(default))
        for key, (annotation, default) in description.parameters.items()
    )
    papers = tuple(line.strip().removeprefix("Paper: ") for line in lines if line.strip().startswith("Paper: "))
    return VariantText(name, about, parameters, papers)


def _describe(name: str, description: Description) -> Iterator[str]:
    text = describe_variant(name, description)
    yield f"  {text.name}: {text.about}"
    for parameter, type_words, default in text.parameters:
        yield f"      {parameter}: {type_words}, {default}"
    yield from (f"      Paper: {paper}" for paper in text.papers)


def _default_words(default: Any) -> str:
    return "required" if default is inspect.Parameter.empty else f"default {shown(default)}"


def _type_words(annotation: Any) -> str:
    """A constructor's annotation in the words of the error messages."""
    if spread_of(annotation) is not None:
        return "number, or one per task"
    if annotation in _WORDS:
        return _WORDS[annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return f"{_type_words(inner[0])} {_bounds(inner[1:])}".strip()
    if origin is Literal:
        return " or ".join(shown(value) for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(map(_type_words, inner))
    if origin is list:
        return f"list of {_type_words(inner[0])}"
    return "mapping" if origin is dict else getattr(annotation, "__name__", str(annotation))


def _bounds(marks: Sequence[Any]) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    found = [(sign, getattr(mark, key, None)) for mark in marks for key, sign in signs.items()]
    return " and ".join(f"{sign} {bound}" for sign, bound in found if bound not in (None, LARGEST))


def study_schema(families: Families) -> dict[str, Any]:
    """JSON Schema of a study file, variants and domains included."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **StudyConfig.model_json_schema()}
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
        "minProperties": 1,
    }
    schema["properties"]["backbone"] = {"$ref": "#/$defs/backbone_variant"}
    _add_task_forms(schema)
    return schema


def _add_task_forms(schema: dict[str, Any]) -> None:
    """Add what a section of tasks may be: named tasks, an entry with ``columns``, or a list of both.

    Where the file has ``task_defaults``, no task needs a key that they may give.
    """
    definitions, properties = schema["$defs"], schema["properties"]
    task = definitions["TaskConfig"]
    some = {key: value for key, value in task.items() if key != "required"}
    keys = {key: value for key, value in task["properties"].items() if key != "target"}
    text, texts = {"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}
    pattern = {
        **some,
        "title": "TaskPattern",
        "description": "A task for each column that ``columns`` matches, named after it.",
        "properties": {"columns": {"anyOf": [text, texts]}, "names": {"anyOf": [text, texts]}, **keys},
        "required": ["columns"],
    }
    definitions |= {"TaskPattern": {**pattern, "required": ["columns", "kind"]}, "TaskDefaults": some}
    definitions |= {"TaskPatternWithDefaults": pattern}
    whole = {section: _task_forms(section, "TaskConfig", "TaskPattern") for section in SECTIONS}
    for section in SECTIONS:
        properties[section] = _task_forms(section, "TaskDefaults", "TaskPatternWithDefaults")
    properties[DEFAULTS] = {"$ref": "#/$defs/TaskDefaults"}
    schema |= {"if": {"not": {"required": [DEFAULTS]}}, "then": {"properties": whole}}


def _task_forms(section: str, task: str, pattern: str) -> dict[str, Any]:
    named = {"type": "object", "additionalProperties": {"$ref": f"#/$defs/{task}"}}
    some = named if section == "source_tasks" else {**named, "minProperties": 1}
    one = {"$ref": f"#/$defs/{pattern}"}
    return {"anyOf": [some, one, {"type": "array", "items": {"anyOf": [named, one]}, "minItems": 1}]}


def _searched() -> set[str]:
    return {*COMPONENTS, *SCHEDULE_FAMILIES.values()}


def _one_or_list(family: str) -> dict[str, Any]:
    one = {"$ref": f"#/$defs/{family}_variant"}
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


def _variant_schema(family: Family, *, searched: bool) -> dict[str, Any]:
    """A variant by name alone, or with its parameters; a user's own as ``package.module:Name``."""
    complete: list[str] = []
    options: list[dict[str, Any]] = [{"enum": complete}, {"type": "string", "pattern": _OWN}]
    for name in family:
        signature = family.describe(name).parameters
        required = [key for key, (_, default) in signature.items() if default is inspect.Parameter.empty]
        inner: dict[str, Any] = {"type": "object", "additionalProperties": False}
        inner["properties"] = {
            key: _value_schema(annotation, default, searched=searched)
            for key, (annotation, default) in signature.items()
        }
        if required:
            inner["required"] = required
        else:
            complete.append(name)
            inner["type"] = ["object", "null"]
        options.append(_single(name, inner))
    own = {"type": ["object", "null"]}
    options.append(
        {"type": "object", "patternProperties": {_OWN: own}, "additionalProperties": False, **_ONE_KEY},
    )
    return {"anyOf": options}


def _value_schema(annotation: Any, default: Any, *, searched: bool) -> dict[str, Any]:
    if searched and spread_of(annotation) is not None:
        number = {"anyOf": [{"type": "number"}, _DOMAIN]}
        value: dict[str, Any] = {"anyOf": [*number["anyOf"], {"type": "object", "additionalProperties": number}]}
    else:
        value = TypeAdapter(annotation).json_schema()
        value = {"anyOf": [value, _DOMAIN]} if searched else value
    return value if default is inspect.Parameter.empty else {**value, "default": default}


def _single(name: str, inner: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: inner}, "required": [name], "additionalProperties": False}


def _schedule_schema() -> dict[str, Any]:
    parameters = {
        name: _one_or_list(SCHEDULE_FAMILIES[name])
        if name in SCHEDULE_FAMILIES
        else _value_schema(annotation, default, searched=True)
        for name, (annotation, default) in signature_of(Schedule).items()
    }
    return {"type": "object", "properties": parameters, "additionalProperties": False}
