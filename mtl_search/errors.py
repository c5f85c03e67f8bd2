"""The exceptions a user can meet: one root, few children, each message naming place, rule and value.

First stop of every hop of the data path: whatever is wrong with a file, a data set or a recipe leaves as one of these.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


class _Nothing:
    """Stands for "no value to show" (None is a value a user can write)."""

    def __repr__(self) -> str:
        return "nothing"


NOTHING: Final = _Nothing()


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

    def __str__(self) -> str:
        text = f"{self.place}: {self.rule}" if self.place else self.rule
        if self.value is not NOTHING:
            shown = repr(self.value)
            text += f", got {shown if len(shown) <= 120 else shown[:117] + '...'}"
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
    """Several problems found in one pass, so that they can be mended in one pass."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        if not problems:
            raise ValueError("at least one problem is needed")
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type["ProblemsError"], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class ConfigError(ProblemsError):
    """The study file breaks a rule."""


class DataError(ProblemsError):
    """The data that the study file names breaks a rule."""


class StudyError(MtlSearchError):
    """A study cannot start, go on or be found: wrong folder, no trial succeeded, already running."""


class TrialError(MtlSearchError):
    """One recipe cannot be trained to its end (it diverged, its backbone crashed, its worker died again and again)."""

    exit_code = 1


class NothingSucceededError(MtlSearchError):
    """A study ended without a single model: every baseline or every trial failed."""

    exit_code = 1
