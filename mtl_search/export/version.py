"""What a registered version says of itself: the study's figures as tags, and a description in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mtl_search.export.card import headline, is_untested
from mtl_search.export.champion import Champion
from mtl_search.results.statistics import Estimate

_OF_TASK = ("validation", "baseline", "gain", "test", "test_baseline", "test_gain")
TAGS = frozenset(
    {"study", "trial", "improvement", "test_improvement", "repeated", "optimism", "worse", "parameters", "recipe"}
)
"""All that a summary may hold."""


def summary(champion: Champion) -> dict[str, str]:
    """What it comes down to, as tags: the registry's table of versions shows every one of them."""
    outcome, repeated = champion.outcome, _repeated(champion.outcome)
    tags = {"study": champion.name, "trial": str(outcome["number"]), "improvement": f"{outcome['improvement']:+.2f}"}
    if outcome["test_improvement"] is not None:
        tags["test_improvement"] = f"{outcome['test_improvement']:+.2f}"
    if repeated is not None:
        tags |= {"repeated": str(repeated), "optimism": f"{outcome['improvement'] - repeated.mean:+.2f}"}
    if any(found.get("worse") is not None for found in outcome["tasks"].values()):
        tags["worse"] = ", ".join(_worse(outcome)) or "none"
    return tags | {"parameters": str(outcome["parameters"]), "recipe": champion.recipe.key}


def figures(champion: Champion) -> dict[str, str]:
    """All that the study measured, as tags of the logged model; what it did not is left out."""
    outcome = champion.outcome
    numbers = {f"{name}.{task}": found[name] for task, found in outcome["tasks"].items() for name in _OF_TASK}
    tags = {name: f"{value:.6g}" for name, value in numbers.items() if value is not None and math.isfinite(value)}
    return tags | summary(champion) | {"single_parameters": str(outcome["single_parameters"])}


def description(champion: Champion) -> str:
    """What the version is worth, for the page of the registered model."""
    outcome, repeated = champion.outcome, _repeated(champion.outcome)
    parts = [headline(champion)]
    if repeated is not None:
        optimism = outcome["improvement"] - repeated.mean
        parts.append(
            f"The search's own run of it: {outcome['improvement']:+.2f} % on validation, {optimism:+.2f} points more."
        )
    if worse := _worse(outcome):
        parts.append(f"**Worse than alone, with 95 % confidence: {', '.join(worse)}.**")
    if is_untested(outcome):
        parts.append("Test data was read for the winner of the study alone, so there are no test figures of this one.")
    lines = ["| task | metric | validation | single-task | gain |", "|---|---|---|---|---|"]
    for name, found in outcome["tasks"].items():
        values = f"{found['validation']:.4g} | {found['baseline']:.4g} | {found['gain']:+.2f} %"
        lines.append(f"| {name} | {found['metric']} | {values} |")
    return "\n\n".join([*parts, "\n".join(lines)])


def _repeated(outcome: Mapping[str, Any]) -> Estimate | None:
    found = outcome.get("repeated")
    return None if found is None else Estimate(**found)


def _worse(outcome: Mapping[str, Any]) -> list[str]:
    return [name for name, found in outcome["tasks"].items() if found.get("worse")]
