"""Request: the file that `extend` is given, checked against the model; every error at once.

It has ``data``, ``tasks``, ``task_defaults`` and ``seed`` in the form of a study file, and a section ``extend`` with
``method`` and ``schedule``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl_search.config.fields import parse_component
from mtl_search.config.study_config import StudyConfig, answer_problems
from mtl_search.config.task_locations import TaskLocations
from mtl_search.config.yaml_reading import DEFAULTS, parse_config, read_yaml, with_text_keys
from mtl_search.data.sources import SOURCES
from mtl_search.data.task_forms import read_tasks
from mtl_search.errors import NOTHING, ConfigError, Problem
from mtl_search.extension import EXTENSIONS
from mtl_search.extension.base import Extension
from mtl_search.models.branching import TaskBranch
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Component, Schedule
from mtl_search.space.binding import bind_component
from mtl_search.space.search_space import SearchSpace
from mtl_search.training.families import TRAINING_FAMILIES
from mtl_search.variants.building import build

_SECTIONS = ("data", "tasks", DEFAULTS, "seed", "extend")
_EXTEND = ("method", "schedule")
_METHOD, _SCHEDULE = "extend.method", "extend.schedule"
_IDLE = {
    "unfreezing": "has no effect here: new parts train on a frozen trunk first, as the method says",
    "l2_sp": "has no effect here: an exported model does not hold the base",
    "temperature": "has no effect here: each new task trains on its own rows, or all on all",
}


@dataclass(frozen=True)
class Request:
    """A file that holds every rule of form, for one model.

    Attributes:
        config: Data, tasks and seed; the rest stands in.
        component: The method as the file names it, defaults filled in.
        method: The method itself.
        schedule: How long and how to train.
        new: Names of the new tasks, in the file's order.
        task_branches: Where each joins the model.
        places: Where the file has the keys of tasks that it does not write out.
    """

    config: StudyConfig
    component: Component
    method: Extension
    schedule: Schedule
    new: tuple[str, ...]
    task_branches: tuple[TaskBranch, ...]
    places: TaskLocations


def read_request(path: Path, model: MultiTaskModel) -> Request:
    """Read and check a file.

    Args:
        path: The file.
        model: The trained model.

    Raises:
        ConfigError: Every rule that is broken.
    """
    raw, problems = with_text_keys(read_yaml(path, "extend file"))
    if not isinstance(raw, Mapping):
        rule = "the extend file must be a mapping of sections" + (", not empty" if raw is None else "")
        raise ConfigError([Problem("", rule, NOTHING if raw is None else raw, _SECTIONS)])
    problems += [Problem(key, "is not a known key", NOTHING, _SECTIONS) for key in raw if key not in _SECTIONS]
    read = read_tasks({key: raw[key] for key in ("data", "tasks", DEFAULTS, "seed") if key in raw})
    config, found = parse_config({**read.plain, "name": "extension", "backbone": "any"})
    problems += read.joined_problems(found)
    sources = _bound_sources(read.plain.get("data"), problems)
    tasks = read.names("tasks")
    new = tuple(name for name in tasks if all(name != task.name for task in model.tasks))
    if tasks and not new:
        names = tuple(task.name for task in model.tasks)
        problems.append(Problem("tasks", "must have a task that the model does not have", tasks, names))
    if config is not None and new:
        kinds = {task.name: str(task.kind) for task in model.tasks}
        found = answer_problems(kinds | {name: config.tasks[name].kind for name in new})
        problems += [problem for problem in found if problem not in problems]
    section = raw.get("extend")
    if section is not None and not isinstance(section, Mapping):
        problems.append(Problem("extend", "must be a mapping", section, _EXTEND))
    section = section if isinstance(section, Mapping) else {}
    problems += [
        Problem(f"extend.{key}", "is not a known key", NOTHING, _EXTEND) for key in section if key not in _EXTEND
    ]
    component, method = _method(section.get("method", next(iter(EXTENSIONS))), problems)
    schedule = _schedule(section.get("schedule", {}), method, problems)
    task_branches: tuple[TaskBranch, ...] = ()
    if method is not None and new:
        try:
            task_branches = method.task_branches(model, new, f"{_METHOD}.{component.name}")
        except ConfigError as error:
            problems += error.problems
    if config is not None and config.data.stream:
        problems.append(
            Problem("data.stream", "has no effect here: the rows that a model is extended on are in memory", True)
        )
    if problems or config is None or method is None or schedule is None:
        raise ConfigError(read.places.translate(problems))
    data = config.data.model_copy(update=sources)
    return Request(
        config.model_copy(update={"data": data}), component, method, schedule, new, task_branches, read.places
    )


def _bound_sources(data: Any, problems: list[Problem]) -> dict[str, Any]:
    """The sources with checked parameters, as fields of the data section."""
    if not isinstance(data, Mapping):
        return {}
    names = data.get("sources")
    several = {
        name: source
        for name, value in (names.items() if isinstance(names, Mapping) else ())
        if (source := _bound_source(value, f"data.sources.{name}", problems)) is not None
    }
    single = _bound_source(data.get("source"), "data.source", problems)
    return ({"source": single} if single is not None else {}) | ({"sources": several} if several else {})


def _bound_source(raw: Any, place: str, problems: list[Problem]) -> Component | None:
    try:
        component = parse_component(raw)
    except ValueError:
        return None  # parse_config has said so, or there is none
    return bind_component(component, SOURCES, place, problems)


def _method(raw: Any, problems: list[Problem]) -> tuple[Component, Extension | None]:
    try:
        named = parse_component(raw)
    except ValueError as error:
        problems.append(Problem(_METHOD, str(error), raw, tuple(EXTENSIONS)))
        return Component(""), None
    before = len(problems)
    component = bind_component(named, EXTENSIONS, _METHOD, problems)
    if len(problems) > before:
        return component, None
    try:
        return component, build(EXTENSIONS, component)
    except ConfigError as error:
        problems += error.problems
        return component, None


def _schedule(raw: Any, method: Extension | None, problems: list[Problem]) -> Schedule | None:
    """A schedule as a study file writes it, less what would be searched."""
    if isinstance(raw, Mapping) and method is not None:
        raw = {**method.usual, **raw}
    space, found = SearchSpace.parse({"joint": raw}, TRAINING_FAMILIES, ("a task", "another"))
    places = {problem: problem.place.replace("space.joint", _SCHEDULE, 1) for problem in found}
    problems += [Problem(place, p.rule, p.value, p.choices) for p, place in places.items()]
    if space is None:
        return None
    for name in space.domains:
        place = name.replace("joint", _SCHEDULE, 1)
        problems.append(Problem(place, "must be a fixed value here: nothing is searched"))
    schedule = space.default().recipe.joint
    usual = Schedule()
    for name, rule in _IDLE.items():
        if (value := getattr(schedule, name)) != getattr(usual, name):
            shown = value.name if isinstance(value, Component) else value
            problems.append(Problem(f"{_SCHEDULE}.{name}", rule, shown))
    if not schedule.epochs:
        problems.append(Problem(f"{_SCHEDULE}.epochs", "must be at least 1", 0))
    return schedule
