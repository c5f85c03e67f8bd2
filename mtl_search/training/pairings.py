"""Pairs: which weightings and alignments find what they need in a sharing.

Asked at ``validate`` and for every recipe of a search.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch

from mtl_search.alignment import ALIGNMENTS
from mtl_search.balancing.gradient_location import SharedParts, gradient_location
from mtl_search.errors import ConfigError, Problem
from mtl_search.models.alignment_point import AlignmentPoint
from mtl_search.models.sharing.resolve_affinity import placeholder_groups
from mtl_search.recipe import Component, Recipe, content_key
from mtl_search.training.built_recipe import BuiltRecipe
from mtl_search.training.workspace import Workload
from mtl_search.transfer.bases import BASES
from mtl_search.variants.building import build
from mtl_search.weighting import WEIGHTINGS


class Pairs:
    """Holds sharings against weightings and alignments of one study.

    Args:
        workload: Data, backbone and tasks.
    """

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._found: dict[str, tuple[SharedParts, Sequence[AlignmentPoint]]] = {}
        self._refusals: dict[str, str] = {}

    def refusal(self, recipe: Recipe) -> str:
        """Why parts of a recipe make no sense together; empty if they do."""
        parts = BuiltRecipe(recipe)
        if parts.transfer.fresh and recipe.base.name == next(iter(BASES)):
            return "the base is random as it is: there is nothing to leave behind"
        sources = self._workload.sources_of(recipe)
        joint = [*self._workload.data.tasks, *map(self._workload.task, sources)]
        if reason := _reason(lambda: parts.sharing.check(joint)):
            return reason
        unbalanced = self._unbalanced(sources, recipe.sharing, recipe.weighting)
        return unbalanced or self._unaligned(sources, recipe.sharing, recipe.alignment)

    def _unaligned(self, sources: Sequence[str], sharing: Component, alignment: Component) -> str:
        """Why an alignment finds nothing to align; empty if it does, or looks for nothing."""
        built = build(ALIGNMENTS, alignment)
        if not _reason(lambda: built.align(())):
            return ""  # goes with everything, and building a model takes time
        return _reason(lambda: built.align(self._look(sharing, sources)[1]))

    def _unbalanced(self, sources: Sequence[str], sharing: Component, weighting: Component) -> str:
        """Why a weighting cannot balance what a sharing shares; empty if it can."""
        built = build(WEIGHTINGS, weighting)
        if built.places[0] == "jacobian_free":
            return ""  # goes with everything, and building a model takes time
        key = content_key(sharing.to_dict(), weighting.name, weighting.params.get("at"), sources)
        if key not in self._refusals:
            self._refusals[key] = _reason(lambda: gradient_location(built, self.common_of(sharing, sources)))
        return self._refusals[key]

    def problems(self, recipes: Iterable[Recipe]) -> list[Problem]:
        """Parts of a space that fit no partner in it; a pair inside a wider space is passed over.

        Args:
            recipes: Between them every variant of the space.
        """
        listed = list(recipes)
        sources = max(map(self._workload.sources_of, listed), key=len)
        problems = [
            *_partners(listed, "weighting", partial(self._unbalanced, sources)),
            *_partners(listed, "alignment", partial(self._unaligned, sources)),
        ]
        return list(dict.fromkeys(problems))

    def common_of(self, sharing: Component, sources: Sequence[str] = ()) -> SharedParts:
        """What the tasks have in common in the model that a sharing makes of them and of source tasks.

        Raises:
            ConfigError: The sharing does not fit backbone or tasks.
        """
        return self._look(sharing, sources)[0]

    def _look(self, sharing: Component, sources: Sequence[str]) -> tuple[SharedParts, Sequence[AlignmentPoint]]:
        key = content_key(sharing.to_dict(), sources)
        if key not in self._found:
            names = [task.name for task in self._workload.data.tasks]
            with torch.random.fork_rng(devices=[]):
                model = self._workload.network([*names, *sources], placeholder_groups(sharing, names))
            self._found[key] = SharedParts.of(model, names), model.alignment_points()
        return self._found[key]


def _reason(attempt: Callable[[], object]) -> str:
    """Why an attempt is refused; empty if it is not."""
    try:
        attempt()
    except ConfigError as error:
        return "; ".join(problem.rule for problem in error.problems)
    return ""


def _partners(recipes: Sequence[Recipe], family: str, refusal: Callable[[Component, Component], str]) -> list[Problem]:
    """Sharings, and variants of another family, that every partner is refused to."""
    sharings = list(dict.fromkeys(recipe.sharing for recipe in recipes))
    others: list[Component] = list(dict.fromkeys(getattr(recipe, family) for recipe in recipes))
    problems = []
    for other in others:
        reasons = {sharing.name: refusal(sharing, other) for sharing in sharings}
        if all(reasons.values()):
            name, reason = next(iter(reasons.items()))
            problems.append(Problem(f"space.{family}.{other.name}", f"does not go with {name}: {reason}"))
    for sharing in sharings if not problems else ():
        reasons = {other.name: refusal(sharing, other) for other in others}
        if all(reasons.values()):
            name, reason = next(iter(reasons.items()))
            problems.append(Problem(f"space.sharing.{sharing.name}", f"does not go with {name}: {reason}"))
    return problems
