"""The study's data as MLflow's data set inputs: plain values for the journal, an input per data set and split.

MLflow ties one context to one digest, so each split of a data set is an input of its own.
"""

import json
from collections.abc import Mapping
from typing import Any

from mtl_search.config.study_config import StudyConfig
from mtl_search.data.study_data import StudyData
from mtl_search.data.task import Task
from mtl_search.input_kinds.encoding import parts_of
from mtl_search.passwords import without_passwords
from mtl_search.recipe import content_key

_CONTEXTS = {"train": "training", "validation": "validation", "test": "test"}
_DIGITS = 12
_MOST_COLUMNS = 2000
"""A schema of more (one-hot tables, fingerprints) tells nobody anything, and MLflow refuses very long ones."""
_MOST_SOURCE = 60_000  # characters; MLflow takes 65,535

_TYPES: dict[str, dict[str, Any]] = {
    "number": {"type": "double"},
    "text": {"type": "string"},
    "array": {"type": "array", "items": {"type": "double"}},
}


def dataset_inputs(config: StudyConfig, data: StudyData) -> list[dict[str, str]]:
    """What `Tracker.log_inputs` takes.

    Args:
        config: Names the sources.
        data: As loaded; its content key makes the digests.
    """
    described = data.describe()
    found = []
    for dataset, source in config.data.datasets.items():
        tasks = [task for task in data.all_tasks if task.dataset == dataset]
        written = json.dumps(without_passwords(source.to_dict()), ensure_ascii=False)
        for split, rows in described["rows"].items():
            labels = {task.name: described["tasks"][task.name]["splits"][split] for task in tasks}
            found.append(
                {
                    "name": config.name if len(data.datasets) == 1 else f"{config.name}.{dataset}",
                    "digest": content_key(data.key, dataset, split)[:_DIGITS],
                    "source_type": source.name.rpartition(":")[2],
                    "source": written if len(written) <= _MOST_SOURCE else json.dumps({source.name: "…"}),
                    "schema": json.dumps(_schema(data.preparation.spec, tasks)),
                    "profile": json.dumps({"split": split, "num_rows": rows[dataset], "tasks": labels}),
                    "context": _CONTEXTS[split],
                }
            )
    return found


def _schema(spec: Mapping[str, Any], tasks: list[Task]) -> dict[str, Any]:
    """Inputs and targets in the form that MLflow's pages show: columns of a table, or the shape of an array."""
    targets = [_target(task) for task in tasks]
    inputs = [column for kind, part in parts_of(spec) for column in kind.signature(part)]
    if len(inputs) == 1 and inputs[0].type == "array":
        tensor: dict[str, Any] = {"name": inputs[0].name, "type": "tensor"}
        tensor["tensor-spec"] = {"dtype": inputs[0].dtype, "shape": [-1, *inputs[0].shape]}
        return {"mlflow_tensorspec": {"features": json.dumps([tensor]), "targets": json.dumps(targets)}}
    columns: list[dict[str, Any]] = [
        {"name": each.name, **_TYPES[each.type], "required": each.required} for each in inputs
    ]
    if len(columns) > _MOST_COLUMNS:
        more = {"name": f"… {len(columns):,} in all", "type": "double", "required": False}
        columns = [*columns[:_MOST_COLUMNS], more]
    return {"mlflow_colspec": [*columns, *targets]}


def _target(task: Task) -> dict[str, Any]:
    columns = task.target if isinstance(task.target, str) else ", ".join(task.target)
    kind = "double" if task.behaviour.answers_numbers else "string"
    return {"name": f"{columns} (target of {task.name}, {task.kind})", "type": kind, "required": False}
