"""Study notes: what a user should know of a study before it runs, though it is no error.

``launch`` gathers them once the data is there; ``validate`` and ``search`` print them.
"""

from mtl_search.catalog import LoadedStudy
from mtl_search.data import StudyData
from mtl_search.data.label_notes import label_notes
from mtl_search.models.backbones import BACKBONES
from mtl_search.rules import schedule_notes
from mtl_search.search.proposals import redundant_transfers
from mtl_search.training.metrics import metric_notes
from mtl_search.transfer import BASES
from mtl_search.transfer.norms import has_batch_norm
from mtl_search.variants import build


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
