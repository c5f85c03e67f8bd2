"""Pairs: which weightings can balance what a sharing shares; asked at ``validate`` and for every recipe of a search."""

from collections.abc import Iterable, Sequence

import torch

from mtl_search.errors import ConfigError, Problem
from mtl_search.models.sharing.settling import presume
from mtl_search.recipe import Component, Recipe, build, content_key
from mtl_search.training.places import Common, place_of
from mtl_search.training.workspace import Workload
from mtl_search.transfer import BASES, TRANSFERS
from mtl_search.weighting import WEIGHTINGS


class Pairs:
    """Holds sharings and weightings of one study against each other.

    Args:
        workload: Data, backbone and tasks.
    """

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._common: dict[str, Common] = {}
        self._refusals: dict[str, str] = {}

    def refusal(self, recipe: Recipe) -> str:
        """Why parts of a recipe make no sense together; empty if they do."""
        if build(TRANSFERS, recipe.transfer).fresh and recipe.base.name == next(iter(BASES)):
            return "the base is random as it is: there is nothing else to leave behind"
        return self._refusal(recipe.sharing, recipe.weighting, self._workload.sources_of(recipe))

    def _refusal(self, sharing: Component, weighting: Component, sources: Sequence[str] = ()) -> str:
        built = build(WEIGHTINGS, weighting)
        if built.places[0] == "jacobian_free":
            return ""  # goes with everything, and building a model takes time
        key = content_key(sharing.to_dict(), weighting.name, weighting.params.get("at"), sources)
        if key not in self._refusals:
            try:
                place_of(built, self.common_of(sharing, sources))
            except ConfigError as error:
                self._refusals[key] = "; ".join(problem.rule for problem in error.problems)
            else:
                self._refusals[key] = ""
        return self._refusals[key]

    def problems(self, recipes: Iterable[Recipe]) -> list[Problem]:
        """Sharings and weightings of a space that fit no partner in it; a pair inside a wider space is passed over.

        Args:
            recipes: Between them every variant of the space.
        """
        listed = list(recipes)
        sharings = {content_key(recipe.sharing.to_dict()): recipe.sharing for recipe in listed}.values()
        weightings = {content_key(recipe.weighting.to_dict()): recipe.weighting for recipe in listed}.values()
        problems = []
        for weighting in weightings:
            reasons = {sharing.name: self._refusal(sharing, weighting) for sharing in sharings}
            if all(reasons.values()):
                name, reason = next(iter(reasons.items()))
                problems.append(Problem(f"space.weighting.{weighting.name}", f"does not go with {name}: {reason}"))
        for sharing in sharings:
            reasons = {weighting.name: self._refusal(sharing, weighting) for weighting in weightings}
            if all(reasons.values()) and not problems:
                name, reason = next(iter(reasons.items()))
                problems.append(Problem(f"space.sharing.{sharing.name}", f"does not go with {name}: {reason}"))
        return list(dict.fromkeys(problems))

    def common_of(self, sharing: Component, sources: Sequence[str] = ()) -> Common:
        """What the tasks have in common in the model that a sharing makes of them and of source tasks.

        Raises:
            ConfigError: The sharing does not fit backbone or tasks.
        """
        key = content_key(sharing.to_dict(), sources)
        if key not in self._common:
            names = [task.name for task in self._workload.data.tasks]
            with torch.random.fork_rng(devices=[]):
                model = self._workload.network([*names, *sources], presume(sharing, names))
            self._common[key] = Common.of(model, names)
        return self._common[key]
