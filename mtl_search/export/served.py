"""The script inside an exported MLflow model: raw rows in, labels, probabilities and values out.

Copied as it stands into ``mlflow_model/`` and run by MLflow when the model is loaded, where mtl_search is not
installed: it imports torch, numpy, pandas and mlflow only, and takes the encoding of columns from the file beside it
(which needs scikit-learn where there is text).
"""

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
        # Not through sys.path: two such models in one process may hold different versions of the file.
        spec = importlib.util.spec_from_file_location("encoding", context.artifacts["encoding"])
        if spec is None or spec.loader is None:
            raise MlflowException(f"cannot read {context.artifacts['encoding']}")
        encoding = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(encoding)
        self.hold(document, program, encoding.encode_sparse)
        _read_csv_as(self._spec)

    def hold(self, document: dict[str, Any], program: Callable[..., Any], encode: Callable[..., Any]) -> None:
        """Answer by this program from now on.

        Args:
            document: Tasks with their labels, and what the input columns are.
            program: Encoded rows to one tensor per task.
            encode: Raw columns to encoded rows and, apart, their text.
        """
        self._tasks: dict[str, dict[str, Any]] = document["tasks"]
        self._spec: dict[str, Any] = document["inputs"]
        self._program, self._encode = program, encode

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predictions for raw rows.

        Args:
            context: MLflow's; not used.
            model_input: Raw columns (n rows): a data frame, a mapping of columns, or a list of records; for a model of
                arrays also the array itself (n, *shape).
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
        if isinstance(given, np.ndarray) and self._spec["kind"] == "array":
            return {self._spec["column"]: given}
        if isinstance(given, list):
            given = pd.DataFrame(given)
        columns = {name: _values(given[name]) if isinstance(given, pd.DataFrame) else given[name] for name in given}
        if self._spec["kind"] == "array":
            return columns
        if columns and all(len(value) == 1 and isinstance(value[0], list) for value in columns.values()):
            # How MLflow hands on a mapping of columns that are all text.
            columns = {name: value[0] for name, value in columns.items()}
        rows = max((len(value) for value in columns.values()), default=0)
        optional = [*self._spec["categorical"], *(self._spec["numeric"] if self._spec["missing"] == "impute" else ())]
        optional += self._spec.get("text", {}).get("columns", [])
        return {name: [None] * rows for name in optional} | columns


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
        said = [labels[int(np.argmax(row))] for row in outputs]
    return {name: said, f"{name}_probabilities": probabilities}


def _read_csv_as(spec: dict[str, Any]) -> None:
    """Let MLflow's scoring server, where this process is one, read the CSV that it is sent as the model's columns.

    The server's own reader refuses every model with a column of type ``any``, and would take 007 in a column of
    categories for the number 7. JSON and data frames do not come this way.
    """
    server: Any = sys.modules.get("mlflow.pyfunc.scoring_server")
    if server is None or spec["kind"] == "array":
        return
    if not hasattr(server, _READERS):
        setattr(server, _READERS, {})
        theirs, readers = server.parse_csv_input, getattr(server, _READERS)

        def parse_csv_input(csv_input: Any, schema: Any = None) -> pd.DataFrame:
            names = list(readers)[-1] if schema is None else tuple(schema.input_names())
            rows: pd.DataFrame = readers[names](csv_input) if names in readers else theirs(csv_input, schema)
            return rows

        server.parse_csv_input = parse_csv_input
    columns = (*spec["numeric"], *spec["categorical"], *spec.get("text", {}).get("columns", []))
    getattr(server, _READERS).pop(columns, None)  # the last one is the model that was loaded last
    getattr(server, _READERS)[columns] = lambda csv_input: _rows_in(csv_input, spec)


def _rows_in(csv_input: Any, spec: dict[str, Any]) -> pd.DataFrame:
    """The rows of a CSV request: numbers as numbers, categories and text as they are written."""
    texts = [*spec["categorical"], *spec.get("text", {}).get("columns", [])]
    gaps = dict.fromkeys(spec["numeric"], _GAPS) | {name: [""] for name in texts}
    try:
        rows = pd.read_csv(
            csv_input, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=gaps, low_memory=False
        )
        if not isinstance(rows.index, pd.RangeIndex):  # pandas took surplus values for names of rows
            raise ValueError("the rows hold more values than the header names")
    except ValueError as error:  # among them pandas' own errors
        raise MlflowException.invalid_parameter_value(f"the request must hold CSV with a header: {error}") from error
    for name, categories in spec["categorical"].items():
        if name in rows:
            known = set(categories)
            rows[name] = [_category(text, known) for text in rows[name].to_numpy(dtype=object)]
    return rows


def _category(text: Any, known: set[str]) -> Any:
    """A category as it was trained; 1.0 for 1, which a table writes where the column has gaps."""
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if text not in known and number.is_integer() and str(number) == text else text


set_model(ServedModel())
