"""The data package: sources -> splits of named tasks -> encoded arrays -> features and batches on a device."""

from mtl_search.data.batching import Batch, BatchPlan, DeviceSplit
from mtl_search.data.encoding import encode
from mtl_search.data.preparation import ArrayPreparation, Preparation, TablePreparation, preparation_from_dict
from mtl_search.data.sources import SOURCES, Source
from mtl_search.data.study_data import Split, StudyData, load_data
from mtl_search.data.task import LOSSES, Task

__all__ = [
    "LOSSES",
    "SOURCES",
    "ArrayPreparation",
    "Batch",
    "BatchPlan",
    "DeviceSplit",
    "Preparation",
    "Source",
    "Split",
    "StudyData",
    "TablePreparation",
    "Task",
    "encode",
    "load_data",
    "preparation_from_dict",
]
