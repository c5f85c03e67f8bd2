"""The exceptions a user can meet: one root, few children, each message naming place, rule and value.

First stop of every hop of the data path: whatever is wrong with a file, a data set or a recipe leaves as one of these.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from mtl_search.passwords import without_passwords


class _Nothing:
    """Stands for "no value to show" (None is a value a user can write)."""

    def __repr__(self) -> str:
        return "nothing"


NOTHING: Final = _Nothing()
_LONGEST = 120
_MOST_CHOICES = 30
_YAML_WORDS = {"None": "null", "True": "true", "False": "false"}
_RULES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "none_required": "must be null",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "too_short": "must hold {min_length} or more entries",
    "too_long": "must hold {max_length} or fewer entries",
}


_ASKED = re.compile(r"allocate ([\d.]+) (bytes|[KMGTPE]iB)|overflowed with sizes=")
"""What torch and numpy say of memory that they did not get."""


@contextmanager
def within_memory(place: str, value: object) -> Iterator[None]:
    """A block whose memory depends on a value of the study file.

    Args:
        place: The value's key path.
        value: The value.

    Raises:
        ConfigError: An allocator refused what the block asked for.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        asked = _ASKED.search(str(error))
        if asked is None and not isinstance(error, MemoryError):
            raise
        size = ""
        if asked is not None and asked[1]:
            amount = f"{float(asked[1]) / 2**30:,.1f} GiB" if asked[2] == "bytes" else f"{asked[1]} {asked[2]}"
            size = f" ({amount} at once)"
        raise ConfigError([Problem(place, f"must need no more memory than there is{size}", value)]) from error


def few_of(names: Iterable[str]) -> tuple[str, ...]:
    """Names as the choices of a problem, cut where they would fill the screen."""
    all_names = tuple(names)
    return all_names if len(all_names) <= _MOST_CHOICES else (*all_names[:_MOST_CHOICES], "…")


def shown(value: object) -> str:
    """A value as a user would write it in the study file, on one short line."""
    text = repr(without_passwords(value))
    text = _YAML_WORDS.get(text, text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def joined_rules(failures: Iterable[Mapping[str, Any]], *also: str) -> str:
    """One rule out of what pydantic found wrong with one value, e.g. ``must be a whole number or 'auto'``.

    Args:
        failures: Entries of pydantic's ``ValidationError.errors()``; several where the value had a choice of forms.
        also: Further forms that the value could have had.
    """
    rules = dict.fromkeys(_rule_of(failure) for failure in failures)
    starts = [rule.removeprefix("must be ") for rule in rules] + list(also)
    if len(starts) > 1 and all(rule.startswith("must be ") for rule in rules):
        return f"must be {', '.join(starts[:-1])} or {starts[-1]}"
    return " or ".join(rules)


def _rule_of(failure: Mapping[str, Any]) -> str:
    known = _RULES.get(failure["type"])
    if known is not None:
        bounds = failure.get("ctx", {}).items()
        return known.format(**{key: int(b) if isinstance(b, float) and b.is_integer() else b for key, b in bounds})
    return str(failure["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")


@dataclass(frozen=True)
class Problem:
    """One violated rule.

    Attributes:
        place: Key path in the study file, e.g. ``tasks.digit.target``; empty for the file as a whole.
        rule: What must hold, e.g. ``must name a column of data set 'main'``.
        value: The value got, shown after the rule unless it is ``NOTHING``.
        choices: What could have been written instead, where that is a short list.
    """

    place: str
    rule: str
    value: object = NOTHING
    choices: tuple[str, ...] = ()

    def __hash__(self) -> int:  # a value may be a list or a mapping
        return hash(str(self))

    def __str__(self) -> str:
        text = f"{self.place}: {self.rule}" if self.place else self.rule
        if self.value is not NOTHING:
            text += f", got {shown(self.value)}"
        if self.choices:
            text += f" (choices: {', '.join(self.choices)})"
        return text


class MtlSearchError(Exception):
    """Root of all errors that are the user's to mend; the command line prints it without a traceback.

    Attributes:
        exit_code: Of the command line.
    """

    exit_code = 2


class ProblemsError(MtlSearchError):
    """Several problems found in one pass, so that they can be mended in one pass.

    Attributes:
        problems: What is wrong, each said once.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        if not problems:
            raise ValueError("at least one problem is needed")
        self.problems = tuple({str(problem): problem for problem in problems}.values())
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type["ProblemsError"], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class ConfigError(ProblemsError):
    """The study file breaks a rule."""


class DataError(ProblemsError):
    """The data that the study file names breaks a rule."""


class StudyError(MtlSearchError):
    """A study cannot start, go on or be found: wrong folder, no trial succeeded, already running."""


class StorageError(MtlSearchError):
    """The storage cannot be written or read: no room, no permission, no such bucket, away for too long."""


class DamagedError(StorageError):
    """A file is not what was written: cut short, or changed since."""


class TrialError(MtlSearchError):
    """One recipe cannot be trained to its end (it diverged, its backbone crashed, its worker died again and again)."""

    exit_code = 1


class NothingSucceededError(MtlSearchError):
    """A study ended without a single model: every baseline or every trial failed."""

    exit_code = 1
