"""Notes on labels: tasks with so few of them in a split that what is measured there is mostly chance.

No error, but what a user should know before a search; ``validate`` and ``search`` print them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtl_search.task_kinds import TASK_KINDS

FEW_LABELS = 30
"""Fewer labels in a split say little of a metric."""
FEW_OF_A_CLASS = 5
"""A metric moves by leaps where a class has fewer labels than this."""
_MOST_NAMED = 5


def label_notes(described: Mapping[str, Any]) -> list[str]:
    """What to know of the labels, a sentence for each split and kind of trouble.

    Args:
        described: The ``tasks`` of ``StudyData.describe``.
    """
    notes = []
    for split in ("train", "validation", "test"):
        few, rare = [], []
        for name, task in described.items():
            found = task["splits"][split]
            labels, smallest = found["labels"], TASK_KINDS[task["kind"]].count_rarest(found)
            if labels < FEW_LABELS:
                few.append(f"{name} ({labels}" + (f", smallest class {smallest})" if smallest is not None else ")"))
            elif smallest is not None and smallest < FEW_OF_A_CLASS:
                rare.append(f"{name} ({smallest} of {labels})")
        consequence = "learned from so few" if split == "train" else "mostly chance"
        if few:
            notes.append(f"fewer than {FEW_LABELS} labels in {split}: {_listed(few)}; what they say is {consequence}")
        if rare:
            notes.append(f"fewer than {FEW_OF_A_CLASS} labels of a class in {split}: {_listed(rare)}")
    return notes


def _listed(words: Sequence[str]) -> str:
    rest = len(words) - _MOST_NAMED
    return ", ".join(words[:_MOST_NAMED]) + (f" and {rest} more tasks" if rest > 0 else "")
