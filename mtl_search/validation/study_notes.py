"""Study notes: what a user should know of a study before it runs, though it is no error.

``launch`` gathers them once the data is there; ``validate`` and ``search`` print them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtl_search.data.study_data import StudyData
from mtl_search.models.backbones import BACKBONES
from mtl_search.search.proposals import redundant_transfers
from mtl_search.task_kinds import TASK_KINDS
from mtl_search.training.metrics import metric_notes
from mtl_search.transfer.bases import BASES
from mtl_search.transfer.norms import has_batch_norm
from mtl_search.validation.section_rules import schedule_notes
from mtl_search.validation.study_file import LoadedStudy
from mtl_search.variants.building import build

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


def study_notes(study: LoadedStudy, data: StudyData) -> list[str]:
    """A line for everything that is worth knowing.

    Args:
        study: The study file.
        data: Its data.
    """
    config, plain = study.config, next(iter(BASES))
    notes = [
        *data.notes,
        *label_notes(data.describe()["tasks"]),
        *metric_notes(data),
        *schedule_notes(config, study.space),
    ]
    notes += [
        f"space.transfer.{name} comes to the same as space.base.{plain}, which stands for both"
        for name in redundant_transfers(study.space)
    ]
    blocks = build(BACKBONES, config.backbone).blocks(data.preparation.feature_shape)
    if has_batch_norm(blocks) and config.resources.most_workers > 1 and not config.resources.gpus_per_worker:
        notes.append(
            "the backbone has batch norm: CPU workers do not synchronise its statistics, so results differ "
            "a little from those of one worker (GPU workers do synchronise)"
        )
    return notes
