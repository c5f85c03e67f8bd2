"""The catalogue: every family of variants by the name it has in a study file, and the whole file checked against them.

``load_study`` is what the command line calls: YAML -> bound configuration and search space, or every error at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtl_search.config.fields import parse_component
from mtl_search.config.study_config import StudyConfig
from mtl_search.config.task_locations import TaskLocations
from mtl_search.config.yaml_reading import parse_config, read_yaml, with_text_keys
from mtl_search.data.task_forms import SECTIONS, read_tasks
from mtl_search.errors import ConfigError, Problem
from mtl_search.extension import EXTENSIONS
from mtl_search.recipe import Component
from mtl_search.search.samplers import SAMPLERS
from mtl_search.search.stoppers import STOPPERS
from mtl_search.space.binding import SCHEDULE_FAMILIES, Family, bind_component
from mtl_search.space.search_space import COMPONENTS, SCHEDULES, SearchSpace, idle_sections
from mtl_search.training.families import TRAINING_FAMILIES
from mtl_search.validation.section_rules import rule_problems
from mtl_search.variants.building import build

FAMILIES: Mapping[str, Family] = {
    **TRAINING_FAMILIES,
    "sampler": SAMPLERS,
    "stopper": STOPPERS,
    "extension": EXTENSIONS,
}
"""Family by the word a study file uses for it."""
_SPACES = Path(__file__).parents[1] / "search_spaces", Path(__file__).parents[2] / "search_spaces"


@dataclass(frozen=True)
class LoadedStudy:
    """A study file that holds every rule of form.

    Attributes:
        config: Its sections, with every variant's parameters checked and defaults filled in.
        space: Its search space.
        file: Where it was read; None where it came as plain values.
        places: Where the file has the keys of tasks that it does not write out.
    """

    config: StudyConfig
    space: SearchSpace
    file: Path | None = None
    places: TaskLocations = field(default_factory=TaskLocations)


def find_study(name: str) -> Path:
    """A study file by path, or one of the shipped ones by bare name.

    Raises:
        ConfigError: There is neither.
    """
    path = Path(name)
    if path.is_file() or path.suffix in (".yaml", ".yml"):
        return path
    shipped = {file.stem: file for folder in _SPACES for file in sorted(folder.glob("*.yaml"))}
    if name in shipped:
        return shipped[name]
    raise ConfigError([Problem("", "must be a study file or the name of a shipped one", name, tuple(shipped))])


def load_study(
    source: str | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    *,
    tried: bool = False,
    read_data: bool = True,
) -> LoadedStudy:
    """Read and check a study file.

    Args:
        source: Path, shipped name, or the file's plain values.
        overrides: Values by key path (``search.trials``) that replace the file's.
        tried: Whether the space is a recipe that a study has tried. Such a recipe holds every part, so parts without
            effect are left out and are no mistake.
        read_data: Whether data sets may be read whose columns stand for tasks. If not, because the study runs where
            this machine's files are not, rules that need the tasks' names are not checked.

    Raises:
        ConfigError: Every rule of form that is broken.
    """
    file = find_study(source) if isinstance(source, str) else None
    raw, problems = with_text_keys(source if file is None else read_yaml(file))
    if not isinstance(raw, Mapping):
        raise ConfigError([*problems, *parse_config(raw)[1]])
    raw = _override(dict(raw), overrides or {})
    read = read_tasks(raw, read_data=read_data)
    tasks, sources = (read.names(section) for section in SECTIONS)
    plain = _without_idle(read.plain, idle_sections(tasks, sources)) if tried else read.plain
    config, found = parse_config(plain)
    problems += read.joined_problems(found)
    bound = _bind_sections(plain, problems)
    space_raw = plain.get("space", {})
    space = None
    if isinstance(space_raw, Mapping):
        space, space_problems = SearchSpace.parse(space_raw, FAMILIES, tasks, sources)
        problems += space_problems
    if space is not None:
        problems += _construction_problems(space, tasks)
    if config is not None:
        config = StudyConfig.model_validate(_override(config.model_dump(), bound))
    if (
        not tried
        and config is not None
        and space is not None
        and not any(p.place.startswith("search.") for p in problems)
    ):
        problems += rule_problems(config, space, sound=not problems)
    if problems or config is None or space is None:
        raise ConfigError(read.places.translate(problems))
    return LoadedStudy(config, space, file, read.places)


def _without_idle(plain: Mapping[str, Any], idle: Sequence[str]) -> dict[str, Any]:
    """The sections of a study, without those parts of its space that would have no effect."""
    space = plain.get("space")
    if not isinstance(space, Mapping):
        return dict(plain)
    return {**plain, "space": {part: value for part, value in space.items() if part not in idle}}


def _bind_sections(raw: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """Bind the variants outside ``space``; values by key path."""
    places = {"backbone": "backbone", "search.sampler": "sampler", "search.stopper": "stopper"}
    data = raw.get("data")
    if isinstance(data, Mapping):
        places["data.source"] = "source"
        names = data.get("sources")
        places |= {f"data.sources.{name}": "source" for name in (names if isinstance(names, Mapping) else {})}
    bound = {}
    for place, family in places.items():
        value = _at(raw, place)
        if value is None:
            continue
        try:
            component = parse_component(value)
        except ValueError:
            continue  # parse_config has said so
        bound[place] = bind_component(component, FAMILIES[family], place, problems)
    return bound


def _construction_problems(space: SearchSpace, tasks: Sequence[str]) -> list[Problem]:
    """Rules that a variant's constructor holds beyond its signature, and those between its parameters and the tasks."""
    problems = []
    for place, family, component in _parts(space):
        try:
            built = build(FAMILIES[family], component)
            if tasks and family in ("fusion", "weighting"):
                built.check(tasks)
        except ConfigError as error:
            for problem in error.problems:
                inner = problem.place.removeprefix(f"{family}.").removeprefix(component.name)
                where = f"space.{place}.{component.name}{inner}"
                problems.append(Problem(where, problem.rule, problem.value, problem.choices))
    return problems


def _parts(space: SearchSpace) -> dict[tuple[str, str, Component], None]:
    """Place, family and component of every part of the space's corners."""
    parts: dict[tuple[str, str, Component], None] = {}
    for recipe in space.extreme_recipes():
        for name in COMPONENTS:
            parts[name, name, getattr(recipe, name)] = None
        for section in SCHEDULES:
            for name, family in SCHEDULE_FAMILIES.items():
                parts[f"{section}.{name}", family, getattr(getattr(recipe, section), name)] = None
    return parts


def _at(raw: Mapping[str, Any], place: str) -> Any:
    value: Any = raw
    for key in place.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _override(raw: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with some values replaced, by key path."""
    for place, value in values.items():
        *path, last = place.split(".")
        node = raw
        for key in path:
            child = node.get(key, {})
            if not isinstance(child, Mapping):
                break  # parse_config says so
            node[key] = dict(child)
            node = node[key]
        else:
            node[last] = value
    return raw
