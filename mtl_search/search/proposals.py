"""Proposals: recipes as the sampler proposes them, without parameters that have no effect, and without twins.

Between the search space and the searcher. ``training.canonical`` says what has no effect beside what. The sampler is to
see the space as it is: where a parameter has no effect it is not sampled, and variants that come to the same are one
choice. To refuse a twin would not do: a sampler does not learn from trials that fail, takes the twin for untried, and
proposes it again and again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mtl_search.recipe import Component, Recipe, Schedule, content_key
from mtl_search.space.domains import Branches, has_domain
from mtl_search.space.search_space import COMPONENTS, SCHEDULES, SearchSpace, Suggester, resolve
from mtl_search.training.canonical import LEAST_EPOCHS, Canonical, KnownValues, Undecided
from mtl_search.training.families import TRAINING_FAMILIES
from mtl_search.transfer import TRANSFERS
from mtl_search.transfer.bases import BASES
from mtl_search.variants.building import build


def key_of(notes: Mapping[str, Any]) -> str:
    """Key of a trial's recipe as it is written; empty for a trial without one.

    Args:
        notes: The trial's user attributes.
    """
    return str(notes.get("key") or content_key(notes["recipe"])) if "recipe" in notes else ""


def redundant_transfers(space: SearchSpace) -> list[str]:
    """Kinds of transfer whose recipes the space has without them too: fresh parameters are those of the plain base."""
    sections = space.sections
    if next(iter(BASES)) not in sections["base"].options:
        return []
    transfers = {
        option: Component(option, space.default_of(params, f"transfer.{option}"))
        for option, params in sections["transfer"].options.items()
    }
    return [option for option, part in transfers.items() if build(TRANSFERS, part).fresh]


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

    def params_of(self, recipe: Recipe, params: Mapping[str, Any]) -> dict[str, Any] | None:
        """The parameters by which the space gives a recipe now; None where it does not give it.

        Args:
            recipe: In any form.
            params: The parameters by which the whole space gives it, or gave it to an earlier version.
        """
        replay = _Replay(params)
        try:
            found = self.suggest(replay)
        except KeyError:  # a parameter that was not sampled then
            return None
        return replay.params if self.canonical(found) == self.canonical(recipe) else None


class _Replay:
    """Answers with values that were sampled before.

    Args:
        params: The values by parameter.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._given = params
        self.params: dict[str, Any] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(self._take(name))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self._take(name))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name not in self._given and (whole := name.partition("(")[0]) != name:
            # Of the choice that this one is a part of; a variant that is not in it does what the first one does.
            value = self._given[whole]
            self.params[name] = value if value in choices else choices[0]
            return self.params[name]
        return self._take(name)

    def _take(self, name: str) -> Any:
        self.params[name] = self._given[name]
        return self.params[name]


class _Sampling:
    """One pass through a space that samples what has an effect beside the parts that are known by then.

    Args:
        trial: Gives the values.
        space: What is sampled.
        canonical: Tells what has no effect.
    """

    def __init__(self, trial: Suggester, space: SearchSpace, canonical: Canonical) -> None:
        self._trial, self._space, self._canonical = trial, space, canonical
        self._known = KnownValues({LEAST_EPOCHS: space.smallest("joint.epochs")})
        transfers = self._options("transfer", space.sections["transfer"]).values()
        self._leaves_base = any(build(TRANSFERS, part).fresh for part in transfers)

    def recipe(self) -> Recipe:
        """The recipe that the values make.

        What holds no domain is known from the start. A section waits for the others where they decide whether it has an
        effect.
        """
        sections = self._space.sections
        order = [*COMPONENTS, *SCHEDULES]
        if self._leaves_base:  # what is transferred says whether the base counts
            order.sort(key=lambda name: name != "transfer")
        fixed = {name: sections[name] for name in order if not has_domain(sections[name])}
        parts = {name: resolve(node, name, self._trial) for name, node in fixed.items()}
        self._known.update({name: part for name, part in parts.items() if name in COMPONENTS})
        for section in SCHEDULES:
            nodes = {f"{section}.{key}": child for key, child in sections[section].items()}
            self._known.update({name: resolve(n, name, self._trial) for name, n in nodes.items() if not has_domain(n)})
        waiting = []
        for name in (name for name in order if name not in fixed):
            try:
                parts[name] = self._section(name, sections[name])
            except Undecided:
                waiting.append(name)
        parts |= {name: self._section(name, sections[name]) for name in waiting}
        return Recipe(**parts)

    def _idle(self, name: str, part: Component | None = None) -> bool:
        return (name != "base" or self._leaves_base) and self._canonical.idle(name, part, self._known)

    def _options(self, name: str, node: Branches) -> dict[str, Component]:
        """Every variant with its default parameters."""
        return {
            option: Component(option, self._space.default_of(params, f"{name}.{option}"))
            for option, params in node.options.items()
        }

    def _section(self, name: str, node: Any) -> Any:
        if name not in SCHEDULES:
            return self._part(name, node)
        if self._idle(name):
            return self._space.default_of(node, name)
        return Schedule(**{key: self._part(f"{name}.{key}", child) for key, child in node.items()})

    def _part(self, name: str, node: Any) -> Any:
        """A section of one component, or a parameter of a schedule."""
        if not has_domain(node):
            part = resolve(node, name, self._trial)
        elif isinstance(node, Branches):
            part = self._variant(name, node)
        elif self._idle(name):
            part = self._space.default_of(node, name)
        else:
            part = resolve(node, name, self._trial)
        self._known[name] = part
        return part

    def _variant(self, name: str, node: Branches) -> Component:
        """One of several variants, of which those that come to the same count as one."""
        options = self._options(name, node)
        if self._idle(name):
            return self._plainest(name, options)
        alike = {o: part for o, part in options.items() if self._idle(name, part)}
        first = [self._plainest(name, alike).name] if alike else []
        dropped = {*alike, *(redundant_transfers(self._space) if name == "transfer" else ())}
        others = [option for option in options if option not in dropped]
        chosen = self._choose(name, [*first, *others], list(options))
        return alike.get(chosen) or Component(chosen, resolve(node.options[chosen], f"{name}.{chosen}", self._trial))

    def _choose(self, name: str, part: list[str], whole: list[str]) -> str:
        """One of the variants that differ here. A part of a choice is another parameter than the whole of it."""
        if len(part) == 1:
            return part[0]
        if set(part) == set(whole):
            return str(self._trial.suggest_categorical(name, tuple(whole)))
        return str(self._trial.suggest_categorical(f"{name}({', '.join(part)})", tuple(part)))

    @staticmethod
    def _plainest(name: str, options: Mapping[str, Component]) -> Component:
        plain = next(iter(TRAINING_FAMILIES[name.rpartition(".")[2]]))
        return options.get(plain) or next(iter(options.values()))
