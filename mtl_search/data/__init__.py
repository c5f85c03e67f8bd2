"""The data package: sources -> splits of named tasks -> encoded arrays -> features and batches on a device."""

from typing import TYPE_CHECKING

from mtl_search.variants.registry import import_on_use

if TYPE_CHECKING:
    from mtl_search.data.batching import Batch as Batch
    from mtl_search.data.batching import BatchPlan as BatchPlan
    from mtl_search.data.batching import DeviceSplit as DeviceSplit
    from mtl_search.data.sources import SOURCES as SOURCES
    from mtl_search.data.sources import Source as Source
    from mtl_search.data.study_data import Split as Split
    from mtl_search.data.study_data import StudyData as StudyData
    from mtl_search.data.study_data import load_data as load_data
    from mtl_search.data.task import Task as Task

__getattr__ = import_on_use(
    __name__,
    {
        "batching": ["Batch", "BatchPlan", "DeviceSplit"],
        "sources": ["SOURCES", "Source"],
        "study_data": ["Split", "StudyData", "load_data"],
        "task": ["Task"],
    },
)
