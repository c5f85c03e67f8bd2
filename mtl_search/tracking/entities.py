"""Entities: what an event says, as MLflow's own objects, within its character sets and lengths.

Used by the destination.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from mtl_search.tracking.journal import Event

_MAX_NAME, _MAX_TAG = 250, 8000  # characters; MLflow refuses or cuts what is longer


def points(event: Event) -> list[Metric]:
    """A ``metrics`` or ``end`` event's figures."""
    step = int(event.body.get("step", 0))
    return [Metric(clean(name), value, event.time, step) for name, value in event.body["metrics"].items()]


def dataset_input(dataset: Mapping[str, str]) -> DatasetInput:
    """Data that a run has used, see ``Tracker.log_inputs``."""
    parts = {name: value for name, value in dataset.items() if name != "context"}
    return DatasetInput(Dataset(**parts), [InputTag(MLFLOW_DATASET_CONTEXT, dataset["context"])])


def run_tags(tags: Mapping[str, Any]) -> list[RunTag]:
    """Tags of a run."""
    return [RunTag(clean(name), cut(value, _MAX_TAG)) for name, value in tags.items()]


def clean(name: str) -> str:
    """MLflow's character set; and no name that would be another one as a path (``a//b``, ``../a``)."""
    allowed = re.sub(r"/+", "/", re.sub(r"[^/\w.\- :]", "_", name)[:_MAX_NAME]).strip("/")
    return re.sub(r"(?<![^/])\.{1,2}(?=/|$)|^\.\.", "_", allowed) or "_"


def cut(value: object, limit: int) -> str:
    """The value as it would stand in YAML, cut with an ellipsis."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else text[: limit - 1] + "…"
