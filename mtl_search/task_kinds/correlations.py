"""Correlations of predictions with labels, as torchmetrics classes with one rule for what is not defined.

Where all labels are the same, a correlation is not defined, and the value is NaN: such a task is not judged. Where all
predictions are the same, they tell nothing of the labels, and the value is 0, as scikit-learn has it for Matthews.
torchmetrics' own classes give 1 or -1 for the former, NaN for the latter, and NaN where one value is far from all
others.

This module imports torchmetrics, so the kinds import it inside methods.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics.classification import BinaryMatthewsCorrCoef, MulticlassMatthewsCorrCoef
from torchmetrics.regression import PearsonCorrCoef


class PearsonCorrelation(PearsonCorrCoef):
    """Pearson's correlation of values (n,) with targets (n,), from -1 to 1; higher is better."""

    higher_is_better = True

    def compute(self) -> Tensor:
        """The correlation; NaN where the targets do not vary, 0 where only the predictions do not."""
        return _ratio(self.corr_xy.squeeze(), self.var_x.squeeze(), self.var_y.squeeze())


class BinaryMatthews(BinaryMatthewsCorrCoef):
    """Matthews' correlation (the phi coefficient) of labels at a threshold, from -1 to 1; higher is better."""

    def compute(self) -> Tensor:
        """The correlation; NaN where there is one label, 0 where only the predictions do not vary."""
        return _matthews(self.confmat)


class MulticlassMatthews(MulticlassMatthewsCorrCoef):
    """Matthews' correlation of several classes (the R_K statistic), from below 0 to 1; higher is better.

    Paper: Gorodkin, Comparing two K-category assignments by a K-category correlation coefficient, 2004,
    https://doi.org/10.1016/j.compbiolchem.2004.09.006
    """

    def compute(self) -> Tensor:
        """The correlation; NaN where there is one class, 0 where only the predictions do not vary."""
        return _matthews(self.confmat)


def _matthews(confusion: Any) -> Tensor:
    """From counts (L, L) of rows by true and predicted label."""
    counts = confusion.double()
    there, said, rows = counts.sum(1), counts.sum(0), counts.sum()
    return _ratio(
        counts.trace() * rows - there @ said, rows.square() - said.square().sum(), rows.square() - there.square().sum()
    )


def _ratio(covariance: Tensor, of_predictions: Tensor, of_targets: Tensor) -> Tensor:
    """A correlation from a covariance and two variances in one unit, float32."""
    spread = of_predictions.double().sqrt() * of_targets.double().sqrt()
    found = torch.where(spread > 0, (covariance.double() / spread).clamp(-1, 1), 0.0)
    return torch.where(of_targets > 0, found, torch.nan).float()
