"""Entities: what an event says, as MLflow's own objects, within its character sets and lengths.

Used by the destination.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, RunTag
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


_VIEW = "workflowType=machine_learning"
_LOCAL = "http://127.0.0.1:5000"
"""Where ``mlflow ui`` serves."""
_KIND, _NOTE = "mlflow.experimentKind", "mlflow.note.content"
_CONTENT = (
    "A top-level run is a study; nested in it are trials, single-task models and repeats. To compare trials, filter by "
    "`tags.kind = 'trial'` and sort by `improvement`."
)
_EARLIER_NOTE = f"Studies of `mtl_search`. {_CONTENT}"
"""What earlier versions of this package wrote."""


def kind_tag() -> dict[str, str]:
    """The tag that says what an experiment is for. Other versions of MLflow choose the view by it."""
    return {_KIND: "custom_model_development"}


def describe_experiment(client: MlflowClient, experiment: Experiment) -> None:
    """Say what an experiment is for and what is in it; what its owner has said stays."""
    link = f"[open them under Model training](#{_runs(experiment.experiment_id)})"
    note = f"Studies of `mtl_search`: {link}, MLflow's switch at the top left. {_CONTENT}"
    for name, value in (kind_tag() | {_NOTE: note}).items():
        if experiment.tags.get(name, _EARLIER_NOTE) == _EARLIER_NOTE:
            client.set_experiment_tag(experiment.experiment_id, name, value)


def runs_page(uri: str, experiment_id: str) -> str | None:
    """Address of the page with an experiment's runs; None where only MLflow knows what shows it.

    Args:
        uri: MLflow's tracking URI. Where it is a database, the address is that of ``mlflow ui`` on this machine.
        experiment_id: The experiment's.
    """
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme.startswith("databricks"):
        return None
    server = uri.rstrip("/") if scheme in ("http", "https") else _LOCAL
    return f"{server}/#{_runs(experiment_id)}"


def _runs(experiment_id: str) -> str:
    return f"/experiments/{experiment_id}/runs?{_VIEW}"
