"""``mlflow_model/``: the model as an MLflow pyfunc made from code, which needs torch and mlflow but not this package.

Holds the program, the labels, a copy of `input_kinds` and the script `served`; the registry gets the same folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Map, Schema, TensorSpec

from mtl_search import input_kinds
from mtl_search.config.study_config import answer_problems, probabilities_of
from mtl_search.export.champion import Champion, Columns
from mtl_search.export.failure import ExportError, explain_failure
from mtl_search.input_kinds.encoding import parts_of
from mtl_search.storage.files import write_json

LABELS_FILE = "labels.json"
MARK = "mtl_search export"
_SCRIPT = Path(__file__).with_name("served.py")
_REQUIREMENTS = ("mlflow", "numpy", "pandas", "torch")


def labels_document(champion: Champion) -> dict[str, Any]:
    """What the outputs and inputs of the program mean, as plain JSON.

    Raises:
        ExportError: Two tasks would answer in the same column.
    """
    if clashes := answer_problems({task.name: task.kind for task in champion.tasks}):
        raise ExportError(str(clashes[0]))  # of a study that an earlier version ran
    return {
        "mark": MARK,
        "study": champion.name,
        "tasks": {
            task.name: {
                "kind": task.kind,
                "answer": task.behaviour.answer,
                "labels": list(task.labels),
                "target": task.target if isinstance(task.target, str) else list(task.target),
            }
            for task in champion.tasks
        },
        "inputs": champion.preparation.spec,
    }


def frame_of(columns: Columns) -> pd.DataFrame:
    """Raw rows as a data frame; a column of arrays holds nested lists."""
    return pd.DataFrame({name: pd.Series(list(values)) for name, values in columns.items()})


def signature_of(champion: Champion) -> ModelSignature:
    """Columns in and out by name, and which may be left out.

    MLflow enforces the signature before the model sees a row: it refuses whole numbers for ``double`` in a data frame
    (even 39 for 39.0), numbers for ``string``, and turns a missing text into the text "None". Those columns are
    declared ``any``; the model's own encoding checks them, and names column, rule and value. It takes "None"
    in a column of free text for a missing text.
    """
    anything = AnyType()  # type: ignore[no-untyped-call]
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string if column.checked else anything, column.name, required=column.required)
        for kind, part in parts_of(champion.preparation.spec)
        for column in kind.signature(part)
    ]
    outputs: list[ColSpec | TensorSpec] = []
    for task in champion.tasks:
        answer = task.behaviour.answer
        said = DataType.double if answer == "value" else DataType.string
        outputs.append(ColSpec(Array(said) if answer == "labels" else said, task.name))
        if task.labels:
            outputs.append(ColSpec(Map(DataType.double), probabilities_of(task.name)))
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def requirements(champion: Champion) -> list[str]:
    """The versions that the model was checked with; torch without its build, since a GPU machine has another."""
    of_kinds = {package for kind, _ in parts_of(champion.preparation.spec) for package in kind.packages}
    return [f"{package}=={version(package).partition('+')[0]}" for package in sorted({*_REQUIREMENTS, *of_kinds})]


def save_pyfunc(champion: Champion, program: Path, to: Path, identity: Model | None = None) -> None:
    """Write the MLflow model's folder.

    Args:
        champion: What to serve.
        program: Its ``model.pt2``.
        to: The folder; must not exist.
        identity: MLflow's record of a logged model, written into the folder.

    Raises:
        ExportError: MLflow cannot write it.
    """
    workbench = to.with_name(f".{to.name}.artifacts")
    try:
        workbench.mkdir()
        write_json(workbench / LABELS_FILE, labels_document(champion))
        copied = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(input_kinds.__file__).parent, workbench / "input_kinds", ignore=copied)
        artifacts = {"program": program, "labels": workbench / LABELS_FILE, "input_kinds": workbench / "input_kinds"}
        with explain_failure("MLflow cannot save the model"):
            mlflow.pyfunc.save_model(
                to,
                python_model=str(_SCRIPT),
                artifacts={name: str(path) for name, path in artifacts.items()},
                signature=signature_of(champion),
                input_example=frame_of(champion.sample),
                pip_requirements=requirements(champion),
                mlflow_model=identity,
            )
            _forget_this_machine(to)
    finally:
        shutil.rmtree(workbench, ignore_errors=True)


def _forget_this_machine(folder: Path) -> None:
    """MLflow writes down where on this machine the files came from; only what is in the folder is ever read."""
    record = Model.load(str(folder))
    flavor = record.flavors[mlflow.pyfunc.FLAVOR_NAME]
    flavor[mlflow.pyfunc.MODEL_CODE_PATH] = _SCRIPT.name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    record.save(str(folder / "MLmodel"))
    mode = (folder / "MLmodel").stat().st_mode
    for path in folder.rglob("*.py"):  # copied with the mode that this package's files have
        path.chmod(mode)


def open_pyfunc(folder: Path, champion: Champion) -> Callable[[Columns], tuple[np.ndarray, ...]]:
    """Load the folder the way a server does, and answer as the trained model does: one array per task."""
    with explain_failure(f"MLflow cannot load {folder.name}"):
        model = mlflow.pyfunc.load_model(str(folder))

    def run(columns: Columns) -> tuple[np.ndarray, ...]:
        with explain_failure(f"{folder.name} cannot predict"):
            answer = model.predict(frame_of(columns))
        parts = []
        for task in champion.tasks:
            if task.behaviour.answers_numbers:
                parts.append(np.asarray(answer[task.name], dtype=np.float64))
                continue
            rows = np.asarray([[row[label] for label in task.labels] for row in answer[probabilities_of(task.name)]])
            parts.append(rows[:, 1] if task.behaviour.answer == "second_label" else rows)
        return tuple(parts)

    return run
