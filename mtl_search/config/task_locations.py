"""Task places: where a study file has the keys of tasks that it does not write out.

``task_forms`` makes tasks of patterns and defaults. A problem with such a task is reported at the place in the file
that the task's key comes from, and only once where several tasks share it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mtl_search.errors import Problem, ProblemsError

_NAMED = 3
"""Tasks that a problem names; it counts the others."""


@dataclass(frozen=True)
class TaskLocations:
    """Places of the tasks' keys in a study file.

    Attributes:
        written: Place in the file and whether other tasks may share it, by section, task and key. The key "" stands
            for the task itself.
    """

    written: Mapping[tuple[str, str, str], tuple[str, bool]] = field(default_factory=dict)

    def translate(self, problems: Sequence[Problem]) -> list[Problem]:
        """The problems at their places in the file. A problem that several tasks share is reported once."""
        found: dict[str, tuple[Problem, dict[str, None]]] = {}
        for problem in problems:
            place, task = self._found(problem.place)
            moved = Problem(place, problem.rule, problem.value, problem.choices)
            _, tasks = found.setdefault(str(moved), (moved, {}))
            tasks |= {task: None} if task else {}
        return [_of_tasks(problem, list(tasks)) for problem, tasks in found.values()]

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Translate the problems of what the block raises."""
        try:
            yield
        except ProblemsError as error:
            if not self.written:
                raise
            raise type(error)(self.translate(error.problems)) from error

    def _found(self, place: str) -> tuple[str, str]:
        """The place in the file, and the task's name where several tasks share that place."""
        section, _, rest = place.partition(".")
        name, _, inner = rest.partition(".")
        key = re.split(r"[.\[]", inner)[0]
        for known, left in ((key, inner[len(key) :]), ("", f".{inner}" if inner else "")):
            if (section, name, known) in self.written:
                written, shared = self.written[section, name, known]
                return f"{written}{left}", name if shared else ""
        return place, ""


def _of_tasks(problem: Problem, tasks: Sequence[str]) -> Problem:
    """A problem that says which tasks have it."""
    if not tasks:
        return problem
    more = f" and {len(tasks) - _NAMED} more" if len(tasks) > _NAMED else ""
    said = f"(task{'s' if len(tasks) > 1 else ''} {', '.join(tasks[:_NAMED])}{more})"
    return Problem(problem.place, f"{problem.rule} {said}", problem.value, problem.choices)
