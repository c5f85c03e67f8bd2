"""The script inside an exported MLflow model: raw rows in, labels, probabilities and values out.

Copied as it stands into ``mlflow_model/`` and run by MLflow when the model is loaded, where mtl_search is not
installed: it imports torch, numpy, pandas and mlflow only, and takes the encoding of columns from the copy of the
package of input kinds beside it (which needs scikit-learn where there is text).
"""

import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

_GAPS = ["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>", "#N/A"]  # in CSV, as in training
_READERS = "mtl_search_readers"  # where the server's module keeps how CSV is read: a model's columns to its reader
_ROWS = 1024  # of one pass, so that a large request does not need memory in proportion


class ServedModel(PythonModel):
    """A multi-task model behind MLflow's pyfunc interface."""

    def load_context(self, context: Any) -> None:
        """Read program, labels and encoding from the model's own artifacts."""
        document = json.loads(Path(context.artifacts["labels"]).read_text(encoding="utf-8"))
        program = torch.export.load(context.artifacts["program"]).module()
        encoding = _input_kinds(Path(context.artifacts["input_kinds"]))
        self.hold(document, program, encoding)
        _read_csv_as(self._written)

    def hold(self, document: dict[str, Any], program: Callable[..., Any], encoding: Any) -> None:
        """Answer by this program from now on.

        Args:
            document: Tasks with their labels, and what the input columns are.
            program: Encoded rows to one tensor per task.
            encoding: The module ``encoding`` of the package of input kinds.
        """
        self._tasks: dict[str, dict[str, Any]] = document["tasks"]
        self._spec: dict[str, Any] = document["inputs"]
        self._program, self._encode = program, encoding.encode_sparse
        parts = encoding.parts_of(self._spec)
        self._signature = [column for kind, part in parts for column in kind.signature(part)]
        self._written = {name: kind.written for kind, part in parts for name in kind.columns(part)}

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predictions for raw rows.

        Args:
            context: MLflow's; not used.
            model_input: Raw columns (n rows): a data frame, a mapping of columns, or a list of records; for a model of
                one column also its values (n, ...).
            params: None are taken.

        Returns:
            One row per row given. By task a column ``<task>`` (the label, the list of labels present, or the value in
            the target's unit), and for tasks with labels ``<task>_probabilities``: label to probability.
        """
        columns = self._columns(model_input)
        try:
            encoded, text = self._encode(columns, self._spec)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        rows = len(encoded[0])
        parts = []
        for start in range(0, rows, _ROWS):
            some = [part[start : start + _ROWS] for part in encoded]
            parts.append(self._run(some if text is None else [*some, text[start : start + _ROWS].toarray()]))
        answer: dict[str, list[Any]] = {}
        for index, (name, task) in enumerate(self._tasks.items()):
            outputs = np.concatenate([part[index] for part in parts]).tolist() if parts else []
            answer |= _readable(name, task, outputs)
        frame = pd.DataFrame(answer, dtype=object)
        for name, task in self._tasks.items():
            if task["answer"] == "value":
                frame[name] = frame[name].astype("float64")
        if isinstance(model_input, pd.DataFrame) and len(model_input) == rows:
            frame.index = model_input.index
        return frame

    def _run(self, encoded: list[np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            return [output.numpy() for output in self._program(*(torch.from_numpy(part) for part in encoded))]

    def _columns(self, given: Any) -> dict[str, Any]:
        """Input columns by name; a column that may be missing in part may be missing altogether."""
        if isinstance(given, np.ndarray) and len(self._signature) == 1:
            return {self._signature[0].name: given}
        if isinstance(given, list):
            given = pd.DataFrame(given)
        columns = {name: _values(given[name]) if isinstance(given, pd.DataFrame) else given[name] for name in given}
        lists = any(column.type == "array" for column in self._signature)
        if columns and not lists and all(len(value) == 1 and isinstance(value[0], list) for value in columns.values()):
            # How MLflow hands on a mapping of columns that are all text.
            columns = {name: value[0] for name, value in columns.items()}
        rows = max((len(value) for value in columns.values()), default=0)
        return {column.name: [None] * rows for column in self._signature if not column.required} | columns


def _values(column: pd.Series) -> np.ndarray:
    """A column's values; those that may be missing as objects, since as floats long whole numbers lose digits."""
    values: np.ndarray = column.to_numpy(dtype=None if isinstance(column.dtype, np.dtype) else object)
    return values


def _readable(name: str, task: dict[str, Any], outputs: list[Any]) -> dict[str, list[Any]]:
    """Plain Python values, which is what JSON can say."""
    answer, labels = task["answer"], task["labels"]
    if answer == "value":
        return {name: outputs}
    if answer == "second_label":  # outputs are its probabilities
        outputs = [[1.0 - positive, positive] for positive in outputs]
    probabilities = [dict(zip(labels, row, strict=True)) for row in outputs]
    if answer == "labels":
        said = [[label for label, probability in row.items() if probability > 0.5] for row in probabilities]
    else:
        said = [labels[int(_rank(row) if answer == "median_label" else np.argmax(row))] for row in outputs]
    return {name: said, f"{name}_probabilities": probabilities}


def _rank(probabilities: list[float]) -> int:
    """The number of the lowest label that at least half of the probability lies at or below."""
    return int((np.cumsum(probabilities[:-1]) < 0.5).sum())


def _input_kinds(folder: Path) -> Any:
    """The module ``encoding`` of a package that lies in a folder.

    Under a name of its own, and not through sys.path: two such models in one process may hold different versions.
    """
    name = f"mtl_search_input_kinds_{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if spec is None or spec.loader is None:
            raise MlflowException(f"cannot read {folder}")
        package = importlib.util.module_from_spec(spec)
        sys.modules[name] = package
        spec.loader.exec_module(package)
    return importlib.import_module(f"{name}.encoding")


def _read_csv_as(written: dict[str, str]) -> None:
    """Let MLflow's scoring server, where this process is one, read the CSV that it is sent as the model's columns.

    The server's own reader refuses every model with a column of type ``any``, and would take 007 in a column of
    categories for the number 7. JSON and data frames do not come this way.

    Args:
        written: Column to how a CSV file holds its values: ``number``, ``text``, or empty where it cannot.
    """
    server: Any = sys.modules.get("mlflow.pyfunc.scoring_server")
    if server is None or not all(written.values()):
        return
    if not hasattr(server, _READERS):
        setattr(server, _READERS, {})
        theirs, readers = server.parse_csv_input, getattr(server, _READERS)

        def parse_csv_input(csv_input: Any, schema: Any = None) -> pd.DataFrame:
            names = list(readers)[-1] if schema is None else tuple(schema.input_names())
            rows: pd.DataFrame = readers[names](csv_input) if names in readers else theirs(csv_input, schema)
            return rows

        server.parse_csv_input = parse_csv_input
    columns = tuple(written)
    getattr(server, _READERS).pop(columns, None)  # the last one is the model that was loaded last
    getattr(server, _READERS)[columns] = lambda csv_input: _rows_in(csv_input, written)


def _rows_in(csv_input: Any, written: dict[str, str]) -> pd.DataFrame:
    """The rows of a CSV request: numbers as numbers, all else as it is written."""
    texts = [name for name, how in written.items() if how == "text"]
    gaps = {name: [""] if how == "text" else _GAPS for name, how in written.items()}
    try:
        rows = pd.read_csv(
            csv_input, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=gaps, low_memory=False
        )
        if not isinstance(rows.index, pd.RangeIndex):  # pandas took surplus values for names of rows
            raise ValueError("the rows hold more values than the header names")
    except ValueError as error:  # among them pandas' own errors
        raise MlflowException.invalid_parameter_value(f"the request must hold CSV with a header: {error}") from error
    return rows


set_model(ServedModel())
