"""Words: a recipe on one line, a length of time, a row of numbers as a small picture."""

import math
from collections.abc import Collection, Sequence

from mtl_search.recipe import Recipe
from mtl_search.space.search_space import COMPONENTS

_SPEAK_FOR_THEMSELVES = ("sharing", "fusion", "weighting")
"""Sections whose variants are known by their names alone."""
_NAMED = ("base", "transfer", "alignment", "auxiliary", "unfreezing", "single.unfreezing")
"""Parameters whose variants are not."""
_BARS = "▁▂▃▄▅▆▇█"


def varying_parameters(recipes: Sequence[Recipe]) -> frozenset[str]:
    """Parameters (keys of ``Recipe.flat``) that differ between those of these recipes that have them."""
    flats = [recipe.flat() for recipe in recipes]
    keys = {key for flat in flats for key in flat}
    return frozenset(key for key in keys if len({repr(flat[key]) for flat in flats if key in flat}) > 1)


def recipe_words(recipe: Recipe, keys: Collection[str]) -> str:
    """Some of a recipe's parameters on one line, e.g. ``weighted depth=2 lr=0.003``.

    Args:
        recipe: The recipe.
        keys: Which of its parameters to name, as keys of ``Recipe.flat``.
    """
    words = []
    for key, value in recipe.flat().items():
        if key in keys:
            name = _short(key)
            if isinstance(value, str):
                words.append(f"{name}={value}" if name.partition(".")[0] in _NAMED or name in _NAMED else value)
            else:
                words.append(f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}")
    return " ".join(words)


def _short(key: str) -> str:
    """A parameter's name as far as it takes to tell it from others."""
    section, *rest = key.split(".")
    if section in _SPEAK_FOR_THEMSELVES:
        return ".".join(rest)
    if section in COMPONENTS:
        return key
    last = rest[-1] if rest[0] != "unfreezing" else ".".join(dict.fromkeys((rest[0], rest[-1])))
    return last if section == "joint" else f"single.{last}"


def duration(seconds: float) -> str:
    """A length of time in its two largest units, e.g. ``3 min 20 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def sparkline(values: Sequence[float], width: int) -> str:
    """Numbers in their order as bars of eight heights, the lowest number's the lowest.

    Args:
        values: Finite; empty for an empty line.
        width: Bars at most; of more numbers each bar shows the last of its share.
    """
    shares = min(width, len(values))
    shown = [values[math.ceil((bar + 1) * len(values) / shares) - 1] for bar in range(shares)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    steps = len(_BARS) - 1
    return "".join(_BARS[round((value - low) / (high - low) * steps) if high > low else 0] for value in shown)
