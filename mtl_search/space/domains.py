"""Domains: what one value of the search space may be, and the tree they stand in.

``binding`` makes the tree from YAML, ``space`` walks it once per trial.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtl_search.errors import NOTHING, Problem

DOMAIN_FORMS = "a domain ({float: [low, high]}, {int: [low, high]} or {choice: [...]})"
_LARGEST_WHOLE = 2**53
"""Up to here samplers, which calculate with floats, tell whole numbers apart."""
_KINDS = {"float": ("log", "default"), "int": ("log", "default"), "choice": ("default",)}


@dataclass(frozen=True)
class Float:
    """A real number in [low, high]; ``log`` samples its logarithm evenly."""

    low: float
    high: float
    log: bool
    default: float

    def suggest(self, name: str, trial: Any) -> float:
        """Ask a trial for the value."""
        return float(trial.suggest_float(name, self.low, self.high, log=self.log))


@dataclass(frozen=True)
class Int:
    """A whole number in [low, high], both ends included."""

    low: int
    high: int
    log: bool
    default: int

    def suggest(self, name: str, trial: Any) -> int:
        """Ask a trial for the value."""
        return int(trial.suggest_int(name, self.low, self.high, log=self.log))


@dataclass(frozen=True)
class Choice:
    """One of a few unordered values."""

    values: tuple[Any, ...]
    default: Any

    def suggest(self, name: str, trial: Any) -> Any:
        """Ask a trial for the value."""
        return trial.suggest_categorical(name, self.values)


@dataclass(frozen=True)
class Branches:
    """A choice between variants, each with parameters of its own that are sampled only there."""

    options: Mapping[str, "Node"]


Node = Float | Int | Choice | Branches | dict[str, Any] | Any
Check = Callable[[Any, str], Any]


def has_domain(node: Node) -> bool:
    """Whether anything in a tree is sampled."""
    if isinstance(node, Branches):
        return len(node.options) > 1 or any(map(has_domain, node.options.values()))
    if isinstance(node, dict):
        return any(map(has_domain, node.values()))
    return isinstance(node, Float | Int | Choice)


def is_domain(raw: object) -> bool:
    """Whether a plain value is written as a domain: ``{float: [lo, hi], ...}``, ``{int: ...}`` or ``{choice: ...}``."""
    return isinstance(raw, Mapping) and any(kind in raw and isinstance(raw[kind], list) for kind in _KINDS)


def parse_domain(
    raw: Mapping[str, Any], place: str, check: Check, default: object, problems: list[Problem]
) -> Float | Int | Choice | None:
    """Read one domain.

    Args:
        raw: A mapping for which ``is_domain`` holds.
        place: Key path for errors.
        check: Checks and converts one value for the parameter; appends to ``problems`` itself.
        default: The parameter's default; the domain's own where that lies inside and none is written.
        problems: Grows by what is wrong.

    Returns:
        The domain, or None where a rule is broken.
    """
    before = len(problems)
    kind, *others = [kind for kind in _KINDS if kind in raw]
    if others:
        problems.append(Problem(place, f"must be one domain, not both {kind} and {' and '.join(others)}", raw))
        return None
    allowed = (kind, *_KINDS[kind])
    rule = f"is not a known key of a domain of kind {kind}"
    problems += [Problem(f"{place}.{key}", rule, NOTHING, allowed) for key in raw if key not in allowed]
    if not isinstance(raw.get("log", False), bool):
        problems.append(Problem(f"{place}.log", "must be true or false", raw["log"]))
    if kind == "choice":
        return _choice(raw, place, check, default, problems, before)
    return _interval(raw, kind, place, check, default, problems, before)


def _choice(
    raw: Mapping[str, Any], place: str, check: Check, default: object, problems: list[Problem], before: int
) -> Choice | None:
    values = tuple(check(value, f"{place}.choice[{index}]") for index, value in enumerate(raw["choice"]))
    if not values:
        problems.append(Problem(f"{place}.choice", "must hold at least one value", raw["choice"]))
    if any(isinstance(value, list | dict) for value in values):
        problems.append(Problem(f"{place}.choice", "must hold single values", raw["choice"]))
    elif len(set(map(repr, values))) < len(values):
        problems.append(Problem(f"{place}.choice", "must hold each value once", raw["choice"]))
    chosen = raw.get("default", default if default in values else (values[0] if values else None))
    if values and chosen not in values:
        problems.append(Problem(f"{place}.default", "must be one of the choices", chosen, tuple(map(str, values))))
    return Choice(values, chosen) if len(problems) == before else None


def _interval(
    raw: Mapping[str, Any], kind: str, place: str, check: Check, default: object, problems: list[Problem], before: int
) -> Float | Int | None:
    whole = kind == "int"
    ends: Sequence[Any] = raw[kind]
    if len(ends) != 2 or not all(_is_number(end, whole) for end in ends):
        what = "whole" if whole else "finite"
        problems.append(Problem(f"{place}.{kind}", f"must be two {what} numbers [low, high]", ends))
        return None
    low, high = ends
    if whole and max(abs(low), abs(high)) > _LARGEST_WHOLE:
        problems.append(Problem(f"{place}.{kind}", f"must have ends of at most {_LARGEST_WHOLE} in size", ends))
    log = raw.get("log") is True
    if low >= high:
        problems.append(Problem(f"{place}.{kind}", "must have its low end below its high end", ends))
    elif log and low <= 0:
        problems.append(Problem(f"{place}.{kind}", "must be above 0 with log: true", ends))
    for index, end in enumerate(ends):
        if len(problems) == before:
            check(end if whole else float(end), f"{place}.{kind}[{index}]")
    if len(problems) > before:
        return None
    middle = math.sqrt(low) * math.sqrt(high) if log else low / 2 + high / 2
    inside = _is_number(default, whole) and low <= default <= high
    chosen = raw.get("default", default if inside else min(max(int(middle) if whole else middle, low), high))
    if not _is_number(chosen, whole) or not low <= chosen <= high:
        what = "whole number" if whole else "number"
        problems.append(Problem(f"{place}.default", f"must be a {what} in [{low}, {high}]", chosen))
        return None
    return Int(low, high, log, chosen) if whole else Float(float(low), float(high), log, float(chosen))


def _is_number(value: Any, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max and (isinstance(value, int) or not whole)
