"""What runs are called and tagged in MLflow's pages, from their recipes.

A run's key (`mtl_search.key`) identifies it; its name is for people: what varies in the space, and no more.
"""

from collections.abc import Collection

from mtl_search.recipe import Recipe
from mtl_search.search.contenders import Contender
from mtl_search.space.search_space import COMPONENTS

_FIRST = ("sharing", "weighting", "fusion")
"""Sections whose variants are known by their names alone."""
_MOST_CHARACTERS = 60


def recipe_name(recipe: Recipe, searched: Collection[str]) -> str:
    """A recipe in a few words, e.g. ``hard-3 uncertainty ties lr=3e-4``.

    Args:
        recipe: The recipe.
        searched: Parameters that vary in the space, as keys of ``Recipe.flat``.
    """
    flat = recipe.flat()
    words = []
    for section in _FIRST:
        sizes = [key for key in flat if key.startswith(f"{section}.") and key in searched and type(flat[key]) is int]
        if section in searched or sizes or not searched:
            words.append("-".join([_variant(flat[section]), *(str(flat[key]) for key in sizes)]))
    for section in COMPONENTS:
        if section in searched and section not in _FIRST:
            words.append(f"{section}={_variant(flat[section])}")
    rates = [key for key in flat if key in searched and key.startswith("joint.") and key.endswith(".lr")]
    words += [f"lr={_number(flat[key])}" for key in rates]
    name = ""
    for word in words:
        if len(name) + len(word) < _MOST_CHARACTERS:
            name = f"{name} {word}".strip()
    return name


def recipe_tags(recipe: Recipe) -> dict[str, object]:
    """The variant of each section, for filtering."""
    return {section: getattr(recipe, section).name for section in COMPONENTS}


def baseline_key(contender: Contender, task: str, seed: int) -> str:
    """Key of a single-task model's run; a task's name holds no slash."""
    parts = [f"baseline-{task}", *([contender.name] if contender.name else []), *([str(seed)] if seed else [])]
    return "/".join(parts)


def trial_key(number: int) -> str:
    """Key of a trial's run."""
    return f"trial-{number}"


def repeat_key(number: int, run: int) -> str:
    """Key of a repeat's run."""
    return f"repeat-{number}-{run}"


def _variant(name: object) -> str:
    """A variant's name; of a user's own the class."""
    return str(name).rpartition(":")[2]


def _number(value: object) -> str:
    """Two digits: ``3e-4``, ``0.05``."""
    assert isinstance(value, int | float)
    mantissa, _, power = (f"{value:.1e}" if 0 < abs(value) < 0.01 else f"{value:.2g}").partition("e")
    return mantissa.removesuffix(".0") + (f"e{int(power)}" if power else "")
