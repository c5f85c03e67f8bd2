"""Settling: a recipe's sharing as written -> as it is trained, once task affinity is known."""

from collections.abc import Mapping, Sequence

from mtl_search.models.sharing import SHARINGS
from mtl_search.recipe import Component
from mtl_search.variants.building import build

TaskGroups = Sequence[Sequence[str]]


def affinity_measure(sharing: Component) -> str:
    """The task affinity that a sharing waits for; empty for none."""
    return build(SHARINGS, sharing).measure


def resolve_affinity(sharing: Component, groups: Mapping[str, TaskGroups]) -> Component:
    """A sharing with everything in it known.

    Args:
        sharing: As in a recipe.
        groups: Tasks that go well together, by the affinity that was measured.

    Returns:
        The sharing itself unless it waits for affinity.
    """
    variant = build(SHARINGS, sharing)
    if not variant.measure:
        return sharing
    return Component(sharing.name, {**sharing.params, **variant.settled(groups[variant.measure])})


def placeholder_groups(sharing: Component, tasks: Sequence[str]) -> Component:
    """A sharing as it may come to be, for checks before anything is measured."""
    some = [tasks[:-1], tasks[-1:]] if len(tasks) > 1 else [tasks]
    return resolve_affinity(sharing, {"cosine": some, "look_ahead": some})
