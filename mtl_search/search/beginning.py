"""Beginning: what of a study's configuration must stay as it was when the study began, or its trials would not compare.

Asked by ``folder`` when a driver takes up a study that is there.
"""

from collections.abc import Mapping
from typing import Any

from mtl_search.errors import StudyError
from mtl_search.recipe import content_key

_DECIDING = ("data", "tasks", "source_tasks", "backbone", "space", "seed")
"""Sections that decide what a trial's result means."""


def check_unchanged(study: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Hold a study's configuration against the one it was begun with.

    Args:
        study: Its name.
        before: The configuration then, plain.
        now: The configuration now, plain.

    Raises:
        StudyError: They differ in what decides what a result means.
    """
    changed = [part for part in _DECIDING if content_key(before.get(part)) != content_key(now[part])]
    if before["search"]["objective"] != now["search"]["objective"]:
        changed.append("search.objective")
    if before["search"].get("baseline_seeds", 1) != now["search"]["baseline_seeds"]:
        changed.append("search.baseline_seeds")
    if changed:
        raise StudyError(
            f"study {study} was begun with another {', '.join(changed)}: its trials would not compare; "
            "give the new study another name"
        )
