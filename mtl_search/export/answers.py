"""Answers: what a trained model says of raw rows, in the words of the served model, without an export."""

from typing import Any

import pandas as pd

from mtl_search.export.champion import Champion
from mtl_search.export.failure import explain_failure
from mtl_search.export.pyfunc import labels_document
from mtl_search.export.served import ServedModel
from mtl_search.input_kinds import encoding


def answers(champion: Champion, rows: Any) -> pd.DataFrame:
    """Predictions for raw rows, as the exported MLflow model gives them.

    Args:
        champion: The trained model.
        rows: Its input columns, n rows, as a data frame or a mapping; what else is in it is left alone.

    Returns:
        n rows. By task a column ``<task>`` (the label, the list of labels present, or the value in the target's unit),
        and for tasks with labels ``<task>_probabilities``: label to probability.

    Raises:
        ExportError: A column is missing, or holds what the model cannot take.
    """
    served = ServedModel()
    served.hold(labels_document(champion), champion.deployed, encoding)
    with explain_failure("the model cannot take these rows"):
        return served.predict(None, rows)
