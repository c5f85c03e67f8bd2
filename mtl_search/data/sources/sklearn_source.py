"""Small real data sets that come with scikit-learn: nothing to download, so quickstart and tests use them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from mtl_search.data.sources.base import Source


class SklearnSource(Source):
    """One of scikit-learn's bundled data sets, as columns named by its features and targets.

    A data set with one target has it in the column "target", for classes as their names. "digits" has the column
    "image" (8, 8) in place of its 64 pixel columns where `inputs` names it.

    Args:
        name: Which data set.
        inputs: Columns that the backbone sees; None for every column that is no task's target.
    """

    def __init__(
        self,
        name: Literal["breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine"],
        inputs: list[str] | None = None,
    ) -> None:
        super().__init__(inputs)
        self._name = name

    def _load(self) -> Mapping[str, Any]:
        from sklearn import datasets  # here, as no other source needs it and it takes a second to import

        bunch = getattr(datasets, f"load_{self._name}")()
        columns = {str(name): bunch.data[:, index] for index, name in enumerate(bunch.feature_names)}
        if bunch.target.ndim == 2:
            columns |= {str(name): bunch.target[:, index] for index, name in enumerate(bunch.target_names)}
        elif "target_names" in bunch:
            columns["target"] = np.asarray(bunch.target_names).astype(str).astype(object)[bunch.target]
        else:
            columns["target"] = bunch.target
        # Beside its own pixels the image would be a second copy of every input.
        if "images" in bunch and self.inputs is not None:
            columns["image"] = bunch.images
        return {"train": columns}
