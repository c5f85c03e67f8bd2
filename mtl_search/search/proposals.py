"""Proposals: recipes as the sampler proposes them, without parameters that have no effect, and without twins.

Between the search space and the searcher. ``training.canonical`` says what has no effect beside what. The sampler is to
see the space as it is: where a parameter has no effect it is not sampled, and of variants that come to the same one is
proposed.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from mtl_search.binding import SCHEDULE_FAMILIES
from mtl_search.domains import Branches, has_domain
from mtl_search.families import TRAINING_FAMILIES
from mtl_search.recipe import Component, Recipe, Schedule, content_key
from mtl_search.space import COMPONENTS, SCHEDULES, SearchSpace, Suggester, resolve
from mtl_search.training.canonical import Canonical, Known, Undecided

_ORDER = ("transfer", "base", *COMPONENTS[2:], *SCHEDULES)
"""In which sections are sampled: what is transferred says whether the base counts."""


def key_of(notes: Mapping[str, Any]) -> str:
    """Key of a trial's recipe as it is written; empty for a trial without one.

    Args:
        notes: The trial's user attributes.
    """
    return str(notes.get("key") or content_key(notes["recipe"])) if "recipe" in notes else ""


class Proposals:
    """Recipes of a space.

    Args:
        space: What is sampled.
        canonical: Gives recipes their canonical form; None to leave them as they are.
        branches: Whether the sampler learns from parameters that exist on some branches only. For one that does not,
            every parameter is sampled, and a twin ends as the recipe ended that it is the same as.

    Attributes:
        spares_twins: Whether twins are proposed as little as can be.
    """

    def __init__(self, space: SearchSpace, canonical: Canonical | None = None, *, branches: bool = True) -> None:
        self._space, self._canonical = space, canonical
        self._keys: dict[str, str] = {}
        self.spares_twins = canonical is not None and branches

    def suggest(self, trial: Suggester) -> Recipe:
        """Sample a recipe."""
        if self._canonical is None or not self.spares_twins:
            return self._space.suggest(trial)
        return _Sampling(trial, self._space, self._canonical).recipe()

    def canonical(self, recipe: Recipe) -> Recipe:
        """The recipe in its canonical form."""
        return recipe if self._canonical is None else self._canonical.of(recipe)

    def key_of(self, notes: Mapping[str, Any]) -> str:
        """Key of the canonical form of a trial's recipe; empty for a trial without one.

        Args:
            notes: The trial's user attributes. An earlier version may have written the recipe in another form.
        """
        written = key_of(notes)
        if self._canonical is None or not written:
            return written
        if written not in self._keys:
            self._keys[written] = self._canonical.of(Recipe.from_dict(notes["recipe"])).key
        return self._keys[written]

    def twin(self, recipe: Recipe, sampled: Collection[str]) -> str:
        """Why a recipe is the twin of one that differs in a sampled variant alone; empty if it is not.

        Of variants that come to the same beside the recipe's other parts, the one that the file names first counts.

        Args:
            recipe: As it was sampled.
            sampled: Names of the parameters that were sampled for it.
        """
        if not self.spares_twins:
            return ""
        canonical = self.canonical(recipe)
        for place, other, alternative in self._alternatives(recipe, sampled):
            if self.canonical(alternative) == canonical:
                return f"{place} {other} comes to the same beside the recipe's other parts"
        return ""

    def _alternatives(self, recipe: Recipe, sampled: Collection[str]) -> Iterator[tuple[str, str, Recipe]]:
        """Place and name of each variant that stands before the recipe's own, and the recipe with it."""
        for place in sampled:
            section, _, name = place.partition(".")
            if name not in ("", *SCHEDULE_FAMILIES):
                continue
            whole, node = getattr(recipe, section), self._space.sections[section]
            chosen, branches = (getattr(whole, name), node[name]) if name else (whole, node)
            for option in list(branches.options)[: list(branches.options).index(chosen.name)]:
                part = Component(option, self._space.default_of(branches.options[option], f"{place}.{option}"))
                changed: Any = replace(whole, **{name: part}) if name else part
                yield place, option, replace(recipe, **{section: changed})


class _Sampling:
    """One pass through a space that samples what has an effect beside the parts that are known by then.

    Args:
        trial: Gives the values.
        space: What is sampled.
        canonical: Tells what has no effect.
    """

    def __init__(self, trial: Suggester, space: SearchSpace, canonical: Canonical) -> None:
        self._trial, self._space, self._canonical = trial, space, canonical
        self._known = Known()

    def recipe(self) -> Recipe:
        """The recipe that the values make.

        What holds no domain is known from the start. A section waits for the others where they decide whether it has an
        effect.
        """
        sections = self._space.sections
        fixed = {name: sections[name] for name in _ORDER if not has_domain(sections[name])}
        parts = {name: resolve(node, name, self._trial) for name, node in fixed.items()}
        self._known.update({name: part for name, part in parts.items() if name in COMPONENTS})
        for section in SCHEDULES:
            nodes = {f"{section}.{key}": child for key, child in sections[section].items()}
            self._known.update({name: resolve(n, name, self._trial) for name, n in nodes.items() if not has_domain(n)})
        waiting = []
        for name in (name for name in _ORDER if name not in fixed):
            try:
                parts[name] = self._section(name, sections[name])
            except Undecided:
                waiting.append(name)
        parts |= {name: self._section(name, sections[name]) for name in waiting}
        return Recipe(**parts)

    def _section(self, name: str, node: Any) -> Any:
        if name not in SCHEDULES:
            return self._part(name, node)
        if self._canonical.idle(name, None, self._known):
            return self._space.default_of(node, name)
        return Schedule(**{key: self._part(f"{name}.{key}", child) for key, child in node.items()})

    def _part(self, name: str, node: Any) -> Any:
        """A section of one component, or a parameter of a schedule."""
        if not has_domain(node):
            part = resolve(node, name, self._trial)
        elif isinstance(node, Branches):
            part = self._variant(name, node)
        elif self._canonical.idle(name, None, self._known):
            part = self._space.default_of(node, name)
        else:
            part = resolve(node, name, self._trial)
        self._known[name] = part
        return part

    def _variant(self, name: str, node: Branches) -> Component:
        options = {
            option: Component(option, self._space.default_of(params, f"{name}.{option}"))
            for option, params in node.options.items()
        }
        nothing = self._canonical.idle(name, None, self._known)
        alike = [o for o, part in options.items() if nothing or self._canonical.idle(name, part, self._known)]
        if len(alike) == len(options):
            plain = next(iter(TRAINING_FAMILIES[name.rpartition(".")[2]]))
            return options.get(plain) or next(iter(options.values()))
        chosen = self._trial.suggest_categorical(name, tuple(options)) if len(options) > 1 else next(iter(options))
        if chosen in alike:
            return options[chosen]
        return Component(chosen, resolve(node.options[chosen], f"{name}.{chosen}", self._trial))
