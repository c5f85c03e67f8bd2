"""SearchSpace: the study file's ``space`` section -> ``suggest(trial)`` -> ``Recipe``.

A space is a tree of domains and fixed values. Every variant's parameters are bound to its constructor's signature when
the file is read, so a parameter that no constructor takes is an error before anything runs. A parameter of a variant
is sampled only where that variant was chosen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from mtl_search.errors import NOTHING, Problem
from mtl_search.recipe import Component, Recipe, Schedule
from mtl_search.space.binding import SCHEDULE_FAMILIES, Families, bind_component, bind_schedule, bind_variants
from mtl_search.space.domains import Branches, Choice, Float, Int, Node

COMPONENTS = ("base", "transfer", "sharing", "fusion", "weighting", "alignment", "auxiliary")
BETWEEN_TARGETS, BETWEEN_TASKS = ("fusion", "weighting"), ("sharing", "alignment")
SCHEDULES = ("single_task", "joint")
PLAIN = ("fusion", "weighting")


class Suggester(Protocol):
    """What a trial of Optuna offers to a define-by-run space."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...
    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


class _Preset:
    """Answers with the given values where they lie in the domain, and with the domain's default elsewhere."""

    def __init__(self, wanted: Callable[[str], Any], defaults: Mapping[str, Any]) -> None:
        self._wanted = wanted
        self._defaults = defaults
        self.params: dict[str, Any] = {}

    def _answer(self, name: str, inside: Callable[[Any], bool]) -> Any:
        value = self._wanted(name)
        self.params[name] = value if value is not NOTHING and inside(value) else self._defaults[name]
        return self.params[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(self._answer(name, lambda value: low <= value <= high))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self._answer(name, lambda value: low <= value <= high))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._answer(name, lambda value: value in choices)


@dataclass(frozen=True)
class Reference:
    """A recipe to try first.

    Attributes:
        recipe: The recipe itself.
        params: Its values in the space by parameter name; None where the space does not hold it.
    """

    recipe: Recipe
    params: dict[str, Any] | None


class SearchSpace:
    """A set of recipes.

    Attributes:
        sections: The tree of each section of a recipe, by name.
        domains: Every searched parameter by name (the variant choices among them), in the file's order.
    """

    def __init__(self, sections: Mapping[str, Node], families: Families) -> None:
        self.sections: Mapping[str, Any] = sections
        self._families = families
        self.domains: dict[str, Float | Int | Choice] = {}
        for name in (*COMPONENTS, *SCHEDULES):
            self._collect(self.sections[name], name)

    @classmethod
    def parse(
        cls, raw: Mapping[str, Any], families: Families, tasks: Sequence[str], sources: Sequence[str] = ()
    ) -> tuple["SearchSpace | None", list[Problem]]:
        """Read the ``space`` section; sections left out stand for their family's default variant.

        Args:
            raw: The section's plain values.
            families: Constructor by variant's name, by family.
            tasks: Task names in order; a domain for a per-task parameter is spread over them.
            sources: Source tasks' names.

        Returns:
            The space (None where a rule is broken) and every problem found.
        """
        problems: list[Problem] = []
        known = (*COMPONENTS, *SCHEDULES)
        problems += [Problem(f"space.{key}", "is not a known key", NOTHING, known) for key in raw if key not in known]
        rule = "has no effect with a single task"
        problems += [Problem(f"space.{n}", rule, raw[n]) for n in idle_sections(tasks, sources) if n in raw]
        sections: dict[str, Node] = {}
        for name in COMPONENTS:
            default = next(iter(families[name]))
            sections[name] = bind_variants(raw.get(name, default), families[name], f"space.{name}", tasks, problems)
        for name in SCHEDULES:
            sections[name] = bind_schedule(raw.get(name, {}), families, f"space.{name}", tasks, problems)
        return (None if problems else cls(sections, families)), problems

    def largest(self, name: str) -> int:
        """The largest whole number that a parameter of a schedule can take, e.g. of ``joint.epochs``."""
        return max(self._ends(name))

    def smallest(self, name: str) -> int:
        """The smallest whole number that a parameter of a schedule can take."""
        return min(self._ends(name))

    def sets(self, name: str) -> bool:
        """Whether a parameter of a schedule is anything but its default, e.g. ``joint.temperature``."""
        section, _, key = name.partition(".")
        node: Any = self._section(section)[key]
        return bool(node != getattr(Schedule, key))

    def extreme_recipes(self) -> list[Recipe]:
        """Recipes that between them hold every variant and both ends of every domain, for checks against data.

        Each end stands in two of them: with every other parameter at its low end, and with all at their high end.
        """
        ends = {
            name: domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
            for name, domain in self.domains.items()
        }
        others = [{name: values[turn] for name, values in ends.items()} for turn in (0, -1)]
        found = [
            self._preset(partial(_wanted, {**rest, **self._way_to(name), name: value})).recipe
            for name, values in ends.items()
            for value in values
            for rest in others
        ]
        return list({recipe.key: recipe for recipe in found or [self.default().recipe]}.values())

    def _way_to(self, name: str) -> dict[str, str]:
        """The choices of variants under which a parameter is sampled."""
        return {
            choice: option
            for choice, domain in self.domains.items()
            if isinstance(domain, Choice)
            for option in domain.values
            if name.startswith(f"{choice}.{option}.")
        }

    def _section(self, name: str) -> dict[str, Any]:
        section = self.sections[name]
        assert isinstance(section, dict)
        return section

    def _ends(self, name: str) -> tuple[int, ...]:
        section, _, key = name.partition(".")
        node: Any = self._section(section)[key]
        if isinstance(node, Choice):
            return tuple(node.values)
        return (node.low, node.high) if isinstance(node, Int) else (int(node),)

    @property
    def has_branches(self) -> bool:
        """Whether some parameter exists only where a variant was chosen."""
        chosen = [name for name, domain in self.domains.items() if isinstance(domain, Choice)]
        return any(other.startswith(f"{name}.") for name in chosen for other in self.domains)

    def suggest(self, trial: Suggester) -> Recipe:
        """Sample one recipe, asking the trial for each parameter on its branch."""
        parts = {name: resolve(self.sections[name], name, trial) for name in (*COMPONENTS, *SCHEDULES)}
        return Recipe(**parts)

    def default_of(self, node: Node, name: str) -> Any:
        """What a part of the space is in the default recipe.

        Args:
            node: The part's tree.
            name: The tree's key path in the space.
        """
        return resolve(node, name, self._preset_of(lambda _: NOTHING))

    def default(self) -> Reference:
        """The sensible default recipe: each domain's default, each list of variants' first."""
        return self._preset(lambda _: NOTHING)

    def plain(self) -> Reference:
        """The default recipe with plain fusion and equal weights, also where the space holds neither.

        Plain is each family's first variant with its constructor's defaults.
        """
        wanted = {
            name: bind_component(Component(next(iter(self._families[name]))), self._families[name], name, [])
            for name in PLAIN
        }

        def plain_value(parameter: str) -> Any:
            section, option, key = (*parameter.split("."), "", "")[:3]
            if section not in wanted:
                return NOTHING
            return wanted[section].params.get(key, NOTHING) if option else wanted[section].name

        found = self._preset(plain_value)
        held = all(_same_meaning(getattr(found.recipe, name), component) for name, component in wanted.items())
        return (
            found
            if held
            else Reference(replace(found.recipe, fusion=wanted["fusion"], weighting=wanted["weighting"]), None)
        )

    def _preset(self, wanted: Callable[[str], Any]) -> Reference:
        preset = self._preset_of(wanted)
        return Reference(self.suggest(preset), preset.params)

    def _preset_of(self, wanted: Callable[[str], Any]) -> _Preset:
        return _Preset(wanted, {name: domain.default for name, domain in self.domains.items()})

    def _collect(self, node: Node, name: str) -> None:
        if isinstance(node, Float | Int | Choice):
            self.domains[name] = node
        elif isinstance(node, Branches):
            if len(node.options) > 1:
                self.domains[name] = Choice(tuple(node.options), next(iter(node.options)))
            for option, params in node.options.items():
                self._collect(params, f"{name}.{option}")
        elif isinstance(node, dict):
            for key, child in node.items():
                self._collect(child, f"{name}.{key}")


def idle_sections(tasks: Sequence[str], sources: Sequence[str]) -> tuple[str, ...]:
    """Sections that have no effect with these tasks and source tasks."""
    if len(tasks) != 1:
        return ()
    return BETWEEN_TARGETS if sources else (*BETWEEN_TARGETS, *BETWEEN_TASKS)


def _wanted(values: Mapping[str, Any], name: str) -> Any:
    return values.get(name, NOTHING)


def resolve(node: Node, name: str, trial: Suggester) -> Any:
    """Walk the tree, asking for every domain on the way.

    Args:
        node: The tree.
        name: The tree's key path in the space.
        trial: Gives the values.
    """
    if isinstance(node, Float | Int | Choice):
        return node.suggest(name, trial)
    if isinstance(node, Branches):
        options = tuple(node.options)
        chosen = trial.suggest_categorical(name, options) if len(options) > 1 else options[0]
        return Component(chosen, resolve(node.options[chosen], f"{name}.{chosen}", trial))
    if isinstance(node, dict):
        values = {key: resolve(child, f"{name}.{key}", trial) for key, child in node.items()}
        return Schedule(**values) if SCHEDULE_FAMILIES.keys() <= values.keys() else values
    return node


def _same_meaning(component: Component, plain: Component) -> bool:
    """Whether a component equals the plain one, a per-task mapping of its default counting as that default."""
    if component.name != plain.name:
        return False
    pairs = [(component.params[key], default) for key, default in plain.params.items()]
    return all(set(v.values()) <= {d} if isinstance(v, dict) and not isinstance(d, dict) else v == d for v, d in pairs)
