"""Task forms: how a study file may write its tasks -> a mapping of tasks by name, which is what all else reads.

First hop of the data path, between the file's plain values and ``reading``. ``task_defaults`` holds keys that every
task takes unless it sets its own. An entry with ``columns`` stands for a task for each column that it matches. A
section is a mapping of named tasks, such an entry, or a list of both.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mtl_search.config.study_config import DataConfig, TaskConfig
from mtl_search.config.task_locations import TaskLocations
from mtl_search.config.yaml_reading import DEFAULTS, STAND_IN_TASK, form_problems
from mtl_search.data.sources import SOURCES
from mtl_search.errors import NOTHING, Problem
from mtl_search.space.binding import bind_component
from mtl_search.task_kinds import TASK_KINDS

if TYPE_CHECKING:
    from mtl_search.data.datasets import DataSet

SECTIONS = ("tasks", "source_tasks")
TASK_KEYS = tuple(TaskConfig.model_fields)
PATTERN_KEYS = ("columns", "names", *(key for key in TASK_KEYS if key != "target"))


@dataclass(frozen=True)
class Tasks:
    """The tasks of a study file.

    Attributes:
        plain: The file's values. Each section of tasks is a mapping of tasks by name, and there are no defaults. A
            section is None where a problem keeps its tasks from being known.
        problems: What is wrong with how the tasks are written.
        places: Where the file has each key of the tasks.
        unresolved: Sections that are None in ``plain`` but not in the file.
        unknown: Whether the tasks' names are not known, because the data could not be read or was not to be read.
    """

    plain: dict[str, Any]
    problems: list[Problem]
    places: TaskLocations
    unresolved: frozenset[str] = frozenset()
    unknown: bool = False

    def names(self, section: str) -> list[str]:
        """Names of a section's tasks, in order; none where they are not known."""
        tasks = self.plain.get(section)
        return [str(name) for name in tasks] if isinstance(tasks, Mapping) and not self.unknown else []

    def joined_problems(self, problems: Sequence[Problem]) -> list[Problem]:
        """The tasks' own problems, then others, without those that only say that unknown tasks are missing.

        Args:
            problems: What is wrong with ``plain``.
        """
        idle = ("search.objective", "data.sources.") if self.unknown else ()
        return [
            *self.problems,
            *(p for p in problems if p.place not in self.unresolved and not p.place.startswith(idle)),
        ]


def read_tasks(raw: Mapping[str, Any], *, read_data: bool = True) -> Tasks:
    """Bring the sections of tasks into one form.

    Args:
        raw: The file's plain values.
        read_data: Whether to read the data sets whose columns are matched. If not, such a section gets one task in
            place of those that it stands for.
    """
    if DEFAULTS not in raw and not any(_has_patterns(raw.get(section)) for section in SECTIONS):
        return Tasks(dict(raw), [], TaskLocations())
    reader = _Reader(raw, read_data)
    plain = {key: value for key, value in raw.items() if key != DEFAULTS}
    plain |= {section: reader.section(section) for section in SECTIONS if section in raw}
    problems = reader.problems or reader.idle_defaults()
    unresolved = frozenset(section for section in SECTIONS if raw.get(section) is not None and plain[section] is None)
    return Tasks(plain, problems, TaskLocations(reader.written), unresolved, reader.unknown)


def _has_patterns(section: object) -> bool:
    """Whether a section is anything but named tasks."""
    named = section.values() if isinstance(section, Mapping) else ()
    return (
        isinstance(section, list)
        or _is_pattern(section)
        or any(isinstance(task, Mapping) and "columns" in task for task in named)
    )


def _is_pattern(entry: object) -> bool:
    """Whether an entry stands for many tasks. One task may be called ``columns``; its value is a mapping."""
    return isinstance(entry, Mapping) and "columns" in entry and not isinstance(entry["columns"], Mapping)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class _Reader:
    """Reads the sections of one file.

    Attributes:
        problems: What is wrong so far.
        written: As in `TaskLocations`.
        unknown: As in `Tasks`.
    """

    def __init__(self, raw: Mapping[str, Any], read_data: bool) -> None:
        self._raw, self._read_data = raw, read_data
        self.problems: list[Problem] = []
        self.written: dict[tuple[str, str, str], tuple[str, bool]] = {}
        self.unknown = False
        self._datasets: dict[str, DataSet | None] = {}
        self._taken: set[str] = set()
        self._defaults = self._sound_defaults(raw.get(DEFAULTS, {}))

    def _sound_defaults(self, given: object) -> dict[str, Any]:
        """The defaults, with a value that stands in where one is wrong."""
        if not isinstance(given, Mapping):
            self.problems.append(Problem(DEFAULTS, "must be a mapping", given, TASK_KEYS))
            return {}
        found = form_problems(TaskConfig, {**STAND_IN_TASK, **given}, DEFAULTS)
        self.problems += found
        wrong = {re.split(r"[.\[]", problem.place.removeprefix(f"{DEFAULTS}."))[0] for problem in found}
        known = {key: value for key, value in given.items() if key in TASK_KEYS}
        return {key: STAND_IN_TASK.get(key) if key in wrong else value for key, value in known.items()}

    def idle_defaults(self) -> list[Problem]:
        """Problems of defaults that no task takes."""
        rule = "has no effect: every task sets its own"
        idle = [key for key in self._defaults if key not in self._taken]
        return [] if self.unknown else [Problem(f"{DEFAULTS}.{key}", rule, self._defaults[key]) for key in idle]

    def section(self, section: str) -> Any:
        """A section as a mapping of tasks by name; None where a problem keeps its tasks from being known."""
        value, before = self._raw[section], len(self.problems)
        if not isinstance(value, list | Mapping):
            return value  # parse_config reports it
        entries = list(self._entries(section, value))
        named: dict[str, Any] = {}
        for place, name, task in entries:
            if name is None:
                self._check_pattern(place, task)
            else:
                named[name] = self._named(section, name, task, place, twice=name in named)
        if len(self.problems) > before:
            return None
        if not self._read_data and len(named) < len(entries):
            self.unknown = True
            return {"columns": STAND_IN_TASK | {"data": self._first_dataset()}}
        tasks: dict[str, Any] = {}
        made_by: dict[str, str] = {}
        for place, name, entry in entries:
            new = {name: named[name]} if name is not None else self._expanded(section, place, entry, named)
            if name is None:
                self._check_clashes(place, new, {**named, **tasks}, made_by)
                made_by |= dict.fromkeys(new, place)
            tasks |= new
        return None if self.unknown or len(self.problems) > before else tasks

    def _check_clashes(
        self, place: str, new: Mapping[str, Any], others: Mapping[str, Any], made_by: Mapping[str, str]
    ) -> None:
        """Add what is wrong between the tasks of an entry and other tasks of the section.

        Args:
            place: Of the entry.
            new: Its tasks.
            others: Other tasks by name.
            made_by: Of those, the ones that earlier entries stand for: the place of the entry.
        """
        where = f"{place}.columns"
        known = {(others[name].get("data"), others[name]["target"]): other for name, other in made_by.items()}
        matched: dict[str, list[str]] = {}
        for name, task in new.items():
            if (other := known.get((task.get("data"), task["target"]))) is not None:
                matched.setdefault(other, []).append(task["target"])
            elif name in others:
                rule = "must give its task a name that no other has; name the column's task yourself"
                self.problems.append(Problem(where, rule, name))
        for other, targets in matched.items():
            self.problems.append(Problem(where, f"must not match columns that {other}.columns matches", targets))

    def _entries(self, section: str, value: Any) -> Iterator[tuple[str, str | None, Any]]:
        """Place, name (None for a pattern) and value of each entry, in the file's order."""
        parts = [(section, value)]
        if isinstance(value, list):
            parts = [(f"{section}[{index}]", part) for index, part in enumerate(value)]
            if not parts:
                self.problems.append(Problem(section, "must hold 1 or more entries", value))
        for place, part in parts:
            if _is_pattern(part):
                yield place, None, part
            elif isinstance(part, Mapping) and (part or place == section):
                yield from ((f"{place}.{name}", str(name), task) for name, task in part.items())
            else:
                self.problems.append(Problem(place, "must be named tasks, or an entry with 'columns'", part))

    def _named(self, section: str, name: str, task: Any, place: str, *, twice: bool) -> Any:
        """A task that has a name of its own, with the defaults that it does not set."""
        if twice:
            self.problems.append(Problem(place, "must have a name that no other task has", name))
        if place != f"{section}.{name}":
            self.written[section, name, ""] = place, False
        if not isinstance(task, Mapping):
            return task
        if "columns" in task:
            rule = (
                "belongs to an entry without a name, since each task is named after its column; a list may hold such "
                "entries beside named tasks"
            )
            self.problems.append(Problem(f"{place}.columns", rule, task["columns"]))
        return {**self._take_defaults(section, name, task), **task}

    def _take_defaults(self, section: str, name: str, own: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults for keys that a task does not set."""
        taken = {key: value for key, value in self._defaults.items() if key not in own}
        self._taken |= taken.keys()
        self.written |= {(section, name, key): (f"{DEFAULTS}.{key}", True) for key in taken}
        return taken

    def _check_pattern(self, place: str, entry: Mapping[str, Any]) -> None:
        """Add what is wrong with the form of an entry that stands for many tasks."""
        rules = {
            "columns": "must be text, or a list of text",
            "names": "must be a list of names, or the name of an array that holds them",
        }
        for key, rule in rules.items():
            listed = _as_list(entry.get(key, "any"))
            if not listed or not all(isinstance(each, str) for each in listed):
                self.problems.append(Problem(f"{place}.{key}", rule, entry[key]))
        if "target" in entry:
            rule = "must be left out beside 'columns', which gives each task its target"
            self.problems.append(Problem(f"{place}.target", rule, entry["target"]))
        known = (*TASK_KEYS, *PATTERN_KEYS)
        tasks = [key for key, value in entry.items() if key not in known and isinstance(value, Mapping)]
        for name in tasks:
            rule = f"must stand in an entry of its own, as in [{{columns: ...}}, {{{name}: ...}}]"
            self.problems.append(Problem(f"{place}.{name}", rule))
        own = {key: value for key, value in entry.items() if key not in ("columns", "names", "target", *tasks)}
        for problem in form_problems(TaskConfig, {**self._defaults, **own, "target": "any"}, place):
            choices = PATTERN_KEYS if problem.choices == TASK_KEYS else problem.choices
            self.problems.append(Problem(problem.place, problem.rule, problem.value, choices))

    def _expanded(
        self, section: str, place: str, entry: Mapping[str, Any], named: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """The tasks that an entry stands for, by name, in the order of the file's columns."""
        from mtl_search.data.column_patterns import input_problems, matched_targets, names_of, not_predicted

        own = {key: value for key, value in entry.items() if key not in ("columns", "names")}
        common = {**self._defaults, **own}
        dataset = self._dataset(place, common.get("data"))
        if dataset is None:
            return {}
        where, patterns = f"{place}.columns", _as_list(entry["columns"])
        whole = TASK_KINDS[common["kind"]].several_targets
        targets = matched_targets(where, dataset, patterns, whole=whole, problems=self.problems)
        names = names_of(f"{place}.names", dataset, entry.get("names"), targets, self.problems)
        others = [task for task in named.values() if isinstance(task, Mapping)]
        predicted = {
            target
            for task in others
            if task.get("data") in (None, dataset.name)
            for target in map(str, _as_list(task.get("target")))
        }
        free = not_predicted(dataset, targets, predicted)
        if targets and not free:
            rule = "has no effect: named tasks predict every column that it matches"
            self.problems.append(Problem(where, rule, entry["columns"]))
        self.problems += input_problems(where, dataset, free)
        tasks: dict[str, dict[str, Any]] = {}
        for target in free:
            name = names[target]
            if name in tasks:
                rule = f"must give each task another name, not {name} twice; name one of the columns' tasks yourself"
                self.problems.append(Problem(where, rule, [tasks[name]["target"], target]))
            self.written |= {(section, name, key): (f"{place}.{key}", True) for key in own}
            self.written |= {(section, name, key): (where, True) for key in ("", "target")}
            tasks[name] = {**self._take_defaults(section, name, {**own, "target": target}), **own, "target": target}
        return tasks

    def _first_dataset(self) -> str | None:
        data = self._raw.get("data")
        several = data.get("sources") if isinstance(data, Mapping) else None
        return str(next(iter(several))) if isinstance(several, Mapping) and several else None

    def _dataset(self, place: str, name: Any) -> "DataSet | None":
        """The data set whose columns an entry matches; None where it cannot be read."""
        try:
            config = DataConfig.model_validate(self._raw.get("data"))
        except ValidationError:
            self.unknown = True  # parse_config reports the data section
            return None
        known = tuple(config.datasets)
        if (name is None and len(known) > 1) or (name is not None and name not in known):
            rule = "must name the data set whose columns it matches" if name is None else "must name a data set"
            self.problems.append(Problem(f"{place}.data", rule, NOTHING if name is None else name, known))
            return None
        chosen = known[0] if name is None else name
        if chosen not in self._datasets:
            self._datasets[chosen] = self._read(config, chosen)
        return self._datasets[chosen]

    def _read(self, config: DataConfig, name: str) -> "DataSet | None":
        from mtl_search.data.datasets import build_sources, read_datasets

        single, wrong = config.source is not None, list[Problem]()
        place = "data.source" if single else f"data.sources.{name}"
        bound = bind_component(config.datasets[name], SOURCES, place, wrong)
        if wrong:
            self.unknown = True  # load_study and read_request report what is wrong with a source
            return None
        one = config.model_copy(update={"source": bound} if single else {"sources": {name: bound}})
        # Only the names of the columns count here; whoever reads the values for good says what there is to note.
        return read_datasets(one, build_sources(one, self.problems), {name: ()}, self.problems, []).get(name)
