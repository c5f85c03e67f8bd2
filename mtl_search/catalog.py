"""The catalogue: every family of variants by the name it has in a study file, and the whole file checked against them.

``load_study`` is what the command line calls: YAML -> bound configuration and search space, or every error at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl_search.alignment import ALIGNMENTS
from mtl_search.binding import SCHEDULE_FAMILIES, Family, bind_component
from mtl_search.config import StudyConfig, parse_component
from mtl_search.data.sources import SOURCES
from mtl_search.domains import Choice
from mtl_search.errors import ConfigError, Problem
from mtl_search.extension import EXTENSIONS
from mtl_search.fusion import FUSIONS, Fusion
from mtl_search.models.backbones import BACKBONES
from mtl_search.models.sharing import SHARINGS
from mtl_search.reading import parse_config, read_yaml
from mtl_search.recipe import Component, Schedule
from mtl_search.search.samplers import NO_BRANCHES, NUMBERS_ONLY, SAMPLERS
from mtl_search.search.stoppers import STOPPERS
from mtl_search.space import COMPONENTS, SCHEDULES, SearchSpace
from mtl_search.transfer import AUXILIARIES, BASES, DECAYS, OPTIMIZERS, TRANSFERS, UNFREEZINGS
from mtl_search.transfer.bases import LearnedBase
from mtl_search.variants import build, variant
from mtl_search.weighting import WEIGHTINGS, Weighting

FAMILIES: Mapping[str, Family] = {
    "source": SOURCES,
    "backbone": BACKBONES,
    "base": BASES,
    "transfer": TRANSFERS,
    "auxiliary": AUXILIARIES,
    "sharing": SHARINGS,
    "fusion": FUSIONS,
    "weighting": WEIGHTINGS,
    "alignment": ALIGNMENTS,
    "optimizer": OPTIMIZERS,
    "decay": DECAYS,
    "unfreezing": UNFREEZINGS,
    "sampler": SAMPLERS,
    "stopper": STOPPERS,
    "extension": EXTENSIONS,
}
"""Family by the word a study file uses for it."""
_SPACES = Path(__file__).parent / "search_spaces", Path(__file__).parent.parent / "search_spaces"


@dataclass(frozen=True)
class LoadedStudy:
    """A study file that holds every rule of form.

    Attributes:
        config: Its sections, with every variant's parameters checked and defaults filled in.
        space: Its search space.
    """

    config: StudyConfig
    space: SearchSpace


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


def load_study(source: str | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> LoadedStudy:
    """Read and check a study file.

    Args:
        source: Path, shipped name, or the file's plain values.
        overrides: Values by key path (``search.trials``) that replace the file's.

    Raises:
        ConfigError: Every rule of form that is broken.
    """
    raw = read_yaml(find_study(source)) if isinstance(source, str) else source
    if isinstance(raw, Mapping):
        raw = _override(dict(raw), overrides or {})
    config, problems = parse_config(raw)
    plain = raw if isinstance(raw, Mapping) else {}
    bound = _bind_sections(plain, problems)
    tasks = [str(task) for task in plain["tasks"]] if isinstance(plain.get("tasks"), Mapping) else []
    space_raw = plain.get("space", {})
    space = None
    if isinstance(space_raw, Mapping):
        space, space_problems = SearchSpace.parse(space_raw, FAMILIES, tasks)
        problems += space_problems
    if space is not None:
        problems += _construction_problems(space, tasks)
    if config is not None:
        config = StudyConfig.model_validate(_override(config.model_dump(), bound))
    if config is not None and space is not None and not any(p.place.startswith("search.") for p in problems):
        problems += [*_search_problems(config, space), *_source_problems(config, space)]
    if problems or config is None or space is None:
        raise ConfigError(problems)
    return LoadedStudy(config, space)


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
            if tasks and isinstance(built, Fusion):
                built.check(tasks)
            elif tasks and isinstance(built, Weighting):
                built.start(tasks, "cpu")
        except ConfigError as error:
            for problem in error.problems:
                inner = problem.place.removeprefix(f"{family}.").removeprefix(component.name)
                where = f"space.{place}.{component.name}{inner}"
                problems.append(Problem(where, problem.rule, problem.value, problem.choices))
    return problems


def _parts(space: SearchSpace) -> dict[tuple[str, str, Component], None]:
    """Place, family and component of every part of the space's corners."""
    parts: dict[tuple[str, str, Component], None] = {}
    for recipe in space.corners():
        for name in COMPONENTS:
            parts[name, name, getattr(recipe, name)] = None
        for section in SCHEDULES:
            for name, family in SCHEDULE_FAMILIES.items():
                parts[f"{section}.{name}", family, getattr(getattr(recipe, section), name)] = None
    return parts


def _search_problems(config: StudyConfig, space: SearchSpace) -> list[Problem]:
    """Rules between the search section and the space."""
    problems = []
    name = config.search.sampler.name
    sampler = variant(SAMPLERS, name, "search.sampler")
    choices = [key for key, domain in space.domains.items() if isinstance(domain, Choice)]
    if sampler in NUMBERS_ONLY and choices:
        rule = f"samples numbers only and would draw {', '.join(choices)} blindly; use tpe"
        problems.append(Problem("search.sampler", rule, name))
    elif sampler in NO_BRANCHES and space.has_branches:
        rule = "cannot learn from parameters that exist on some branches only; use tpe"
        problems.append(Problem("search.sampler", rule, name))
    if not space.domains and config.search.trials > 2:
        rule = (
            f"must hold a domain for {config.search.trials} trials (without one: 2, the default and the plain recipe)"
        )
        problems.append(Problem("space", rule, config.space))
    for section in SCHEDULES:
        problems += _schedule_problems(section, space)
    longest = space.largest("joint.epochs")
    grace = config.search.stopper.params.get("grace")
    if isinstance(grace, int) and grace >= longest:
        rule = f"has no effect: no trial is longer than {longest} epochs"
        problems.append(Problem(f"search.stopper.{config.search.stopper.name}.grace", rule, grace))
    return problems


def _source_problems(config: StudyConfig, space: SearchSpace) -> list[Problem]:
    """Rules between the source tasks and what of the space learns from them."""
    users = {}
    for recipe in space.corners():
        base = variant(BASES, recipe.base.name, "space.base")
        if isinstance(base, type) and issubclass(base, LearnedBase):
            users[f"space.base.{recipe.base.name}"] = recipe.base.name
        if build(AUXILIARIES, recipe.auxiliary).trains:
            users[f"space.auxiliary.{recipe.auxiliary.name}"] = recipe.auxiliary.name
    if users and not config.source_tasks:
        rule = "needs source_tasks to learn from, in the form of tasks"
        return [Problem(place, rule, name) for place, name in users.items()]
    if config.source_tasks and not users:
        rule = "have no effect: neither a base (pretrain, ...) nor space.auxiliary learns from them"
        return [Problem("source_tasks", rule, tuple(config.source_tasks))]
    return []


def _schedule_problems(section: str, space: SearchSpace) -> list[Problem]:
    """Parts of a schedule that could have no effect in any stage of the space."""
    problems = {}
    longest = space.largest(f"{section}.epochs")
    schedules: list[Schedule] = [getattr(recipe, section) for recipe in space.corners()]
    for name, params in ((part.unfreezing.name, part.unfreezing.params) for part in schedules):
        if params.get("epochs", 0) > longest:
            place = f"space.{section}.unfreezing.{name}.epochs"
            rule = f"must not be more than the {longest} epochs of the stage"
            problems[place] = Problem(place, rule, params["epochs"])
    patiences = [part.patience for part in schedules if part.patience is not None]
    if patiences and min(patiences) >= longest:
        rule = f"has no effect: no stage is longer than {longest} epochs"
        problems["patience"] = Problem(f"space.{section}.patience", rule, min(patiences))
    if not any(_ever_learns(part) for part in schedules):
        for name in ("layer_decay", "l2_sp"):
            if space.sets(f"{section}.{name}"):
                place = f"space.{section}.{name}"
                problems[name] = Problem(place, "has no effect: no block ever learns", getattr(schedules[0], name))
    return list(problems.values())


def _ever_learns(schedule: Schedule) -> bool:
    """Whether the topmost block, which begins no later than those below, learns within the schedule's epochs."""
    unfreezing = build(UNFREEZINGS, schedule.unfreezing)
    starts = [unfreezing.start(1, 1, shared=shared) for shared in (True, False)]
    return any(start is not None and start <= schedule.epochs for start in starts)


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
