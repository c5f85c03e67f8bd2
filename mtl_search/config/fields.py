"""Fields: what the sections of a study file are made of: the strict base, names, variants."""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)

from mtl_search.recipe import Component

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
NAME_RULE = "must start with a letter and hold letters, digits, '_' and '-' only (64 characters at most)"


def is_name(name: str) -> bool:
    """Whether a study, a task or a data set may have this name; such a name is safe in a path and on a page."""
    return _NAME.fullmatch(name) is not None


def _check_name(name: str) -> str:
    if not is_name(name):
        raise ValueError(NAME_RULE)
    return name


def parse_component(raw: object) -> Component:
    """Read ``name`` or ``{name: {parameter: value}}``.

    Raises:
        ValueError: The value has another form.
    """
    if isinstance(raw, Component):
        return raw
    if isinstance(raw, str):
        return Component(raw)
    if isinstance(raw, Mapping) and len(raw) == 1:
        ((name, params),) = raw.items()
        if isinstance(name, str) and (params is None or isinstance(params, Mapping)):
            return Component(name, dict(params or {}))
    raise ValueError("must be a variant's name, or a mapping of one name to its parameters")


def _as_list(raw: object) -> object:
    return raw if isinstance(raw, list) else [raw]


Name = Annotated[str, AfterValidator(_check_name)]
Variant = Annotated[
    Component,
    PlainValidator(parse_component),
    PlainSerializer(Component.to_dict),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "minProperties": 1, "maxProperties": 1}]}),
]
Columns = Annotated[
    list[str],
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


class Section(BaseModel):
    """Part of a study file: frozen, strictly typed, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
