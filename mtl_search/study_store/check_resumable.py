"""Beginning: what of a study's configuration must stay as it was when the study began, or its trials would not compare.

Asked by ``folder`` when a driver takes up a study that is there.
"""

from collections.abc import Mapping
from typing import Any

from mtl_search.config.search_config import EQUAL, MEAN_IMPROVEMENT, RELIABILITY, BaselineConfig
from mtl_search.config.study_config import StudyConfig
from mtl_search.errors import StudyError
from mtl_search.recipe import content_key

_DECIDING = ("data", "tasks", "source_tasks", "backbone", "space", "seed")
"""Sections that decide what a trial's result means."""
_ORDERED = ("tasks", "source_tasks", "data.sources")
"""Sections whose order counts too: the cut into splits asks the tasks in turn, and a model has its heads in order."""


_DECIDING_IN_SEARCH = {
    "objective": MEAN_IMPROVEMENT,
    "objective_weights": EQUAL,
    "baseline_seeds": 1,
    "baseline": BaselineConfig().model_dump(mode="json"),
}
"""The same keys of the search section, with what they were in a study that was begun before there was such a key."""


def check_resumable(study: str, before: Mapping[str, Any], config: StudyConfig) -> StudyConfig:
    """Hold a study's configuration against the one it was begun with.

    Args:
        study: Its name.
        before: The configuration then, plain.
        config: The configuration now.

    Returns:
        The configuration to go on with: a study that was begun before tasks were weighted counts them equally.

    Raises:
        StudyError: They differ in what decides what a result means.
    """
    if "objective_weights" not in before["search"] and config.search.objective_weights == RELIABILITY:
        search = config.search.model_copy(update={"objective_weights": EQUAL})
        config = config.model_copy(update={"search": search})
    now = config.model_dump(mode="json")
    changed = [part for part in _DECIDING if _deciding(before, part) != _deciding(now, part)]
    changed += [
        f"order of {part}"
        for part in _ORDERED
        if _names(before, part) != _names(now, part) and sorted(_names(before, part)) == sorted(_names(now, part))
    ]
    changed += [
        f"search.{name}"
        for name, earlier in _DECIDING_IN_SEARCH.items()
        if before["search"].get(name, earlier) != now["search"][name]
    ]
    if changed:
        raise StudyError(
            f"study {study} was begun with another {', '.join(changed)}: its trials would not compare; "
            "give the new study another name"
        )
    return config


def _deciding(config: Mapping[str, Any], part: str) -> str:
    """Content key of a section, without what says how it is carried out and not what it gives.

    Keys of a task that are not set do not count, since there are more of them today than when the study was begun.
    """
    section = config.get(part)
    if part in ("tasks", "source_tasks") and isinstance(section, Mapping):
        section = {
            name: {key: value for key, value in task.items() if value is not None} for name, task in section.items()
        }
    if part == "data" and isinstance(section, Mapping):
        section = {name: value for name, value in section.items() if name != "stream"}
    return content_key(section)


def _names(config: Mapping[str, Any], part: str) -> list[str]:
    """Names in a section, in the order of the study file."""
    section: Any = config
    for key in part.split("."):
        section = (section or {}).get(key)
    return list(section or ())
