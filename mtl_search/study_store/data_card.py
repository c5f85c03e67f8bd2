"""Data card: what a study's folder holds of its data, ``data.json``: enough to export a model without the rows.

`folder` writes the card when a study begins and never again. Whoever takes up the study later holds the rows of that
day against it.
"""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mtl_search.errors import StudyError, shown
from mtl_search.input_kinds.encoding import parts_of

if TYPE_CHECKING:
    from mtl_search.training.workspace import Workload


def describe_data(workload: "Workload") -> dict[str, Any]:
    """What export needs to know of the data, as plain values; ``key`` is the content key of every encoded value."""
    data = workload.data
    return {
        "tasks": [task.to_dict() for task in data.tasks],
        "source_tasks": [task.to_dict() for task in data.source_tasks],
        "preparation": data.preparation.to_dict(),
        "sample": data.sample,
        "description": data.describe(),
        "key": data.key,
        "datasets": list(data.datasets),
        "blocks": workload.blocks,
    }


def check_same_rows(study: str, before: Mapping[str, Any], now: Mapping[str, Any], way_out: str) -> None:
    """Hold the rows of today against those that a study was begun with.

    Args:
        study: The study's name.
        before: The study's card.
        now: The card of the rows as they are now.
        way_out: What a user can do who wants the new rows.

    Raises:
        StudyError: The rows are others.
    """
    facts, others = dict(_facts(before)), dict(_facts(now))
    changed = [fact for fact, value in facts.items() if not _alike(value, others.get(fact))]
    # A card of an earlier version has no key.
    if before["key"] == now["key"] if "key" in before and "key" in now else not changed:
        return
    found = ""
    if changed:
        found = f" ({changed[0]}: {_shown(facts[changed[0]])} then, {_shown(others.get(changed[0]))} now)"
    raise StudyError(
        f"data: the rows have changed since study {study} was begun{found}; put them back as they were, or {way_out}"
    )


def _facts(card: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """By what a user knows rows: their numbers, labels and means."""
    description, preparation = card.get("description", {}), card.get("preparation", {})
    for split, datasets in description.get("rows", {}).items():
        for dataset, rows in datasets.items():
            yield f"rows of {dataset} in {split}", rows
    for task, found in description.get("tasks", {}).items():
        for split, counts in found["splits"].items():
            yield f"labels of task {task} in {split}", counts
    for task in (*card.get("tasks", ()), *card.get("source_tasks", ())):
        yield f"mean of task {task['name']}", task["center"]
    for kind, part in parts_of(preparation):
        yield from kind.facts(part)


def _alike(one: Any, other: Any) -> bool:
    """Equal, up to the precision in which versions keep a mean."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-4)
    return bool(one == other)


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else shown(value)
