"""NumberKind: kinds whose target is one number a row, and how columns of numbers are read."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mtl_search.errors import Problem
from mtl_search.input_kinds.notation import HOW_TO_READ, is_foreign_number
from mtl_search.input_kinds.values import is_missing, number_in, text_of
from mtl_search.task_kinds.base import Answer, FittedTask, RawTarget, StatedTask, TaskKind

if TYPE_CHECKING:
    from torch import Tensor

_FAR = 128
_LARGE = 2.0**40


class NumberKind(TaskKind):
    """One number a row. Raw outputs are (n,); targets are (value - center) / scale, (n,) float32.

    Attributes:
        training_mean: The mean of the training targets in the scaled unit.
    """

    training_mean: ClassVar[float]
    metric_module: ClassVar[str] = "torchmetrics.regression"
    checks_metric_arguments: ClassVar[bool] = False
    natural_scale: ClassVar[bool] = True
    has_entropy: ClassVar[bool] = False
    agreement: ClassVar[str] = "rmse"
    answer: ClassVar[Answer] = "value"

    def read(self, columns: Sequence[np.ndarray], stated: StatedTask) -> RawTarget:
        values, marked = read_numbers(columns, stated.missing)
        mask = ~np.isnan(values)
        with np.errstate(over="ignore"):
            refuse(values, mask & np.isinf(values.astype(np.float32)), "must hold finite numbers")
        return RawTarget(np.where(mask, values, 0)[:, 0], mask[:, 0], marked)

    def encode(self, task: FittedTask, raw: RawTarget, split: str, problems: list[Problem], known: bool) -> np.ndarray:
        return np.where(raw.mask, (raw.values - task.center) / task.scale, 0).astype(np.float32)

    def output_shape(self, task: FittedTask) -> tuple[int, ...]:
        return ()

    def in_own_unit(self, task: FittedTask, values: Tensor) -> Tensor:
        import torch

        if not self.needs_double(task):
            return values * task.scale + task.center
        # As tensors: the ONNX exporter rounds numbers of Python to float32.
        unit = torch.tensor([task.scale, task.center], dtype=torch.float64, device=values.device)
        return values.double() * unit[0] + unit[1]

    def needs_double(self, task: FittedTask) -> bool:
        """Whether values in the target's own unit need float64.

        Far from zero, float32 rounds away what tells two values apart: at 1.7e9 its steps are 128 wide. Squares of such
        values lose twice as many digits, so 128 standard deviations are the limit. Squares of values as large as
        2**40, or as small as 2**-40, come near the ends of float32's range.
        """
        return abs(task.center) > _FAR * task.scale or not 1 / _LARGE < task.scale < _LARGE

    def own_metrics(self) -> dict[str, type[Any]]:
        from mtl_search.task_kinds.correlations import PearsonCorrelation

        return {"PearsonCorrelation": PearsonCorrelation}

    def targets_in_own_unit(self, task: FittedTask, targets: Tensor) -> Tensor:
        return self.in_own_unit(task, targets)

    @abstractmethod
    def mean_of(self, raw: Tensor) -> Tensor:
        """The mean in the scaled unit that raw outputs (n,) stand for, (n,)."""

    def activate(self, task: FittedTask, raw: Tensor) -> Tensor:
        return self.mean_of(raw)

    def soft_targets(self, raw: Tensor, temperature: float) -> Tensor:
        return self.mean_of(raw)

    def hard_targets(self, raw: Tensor) -> Tensor:
        return self.mean_of(raw)

    def perfect(self, task: FittedTask, targets: Tensor) -> Tensor:
        return targets.float()

    def trivial(self, task: FittedTask, targets: Tensor) -> Tensor:
        import torch

        return torch.full_like(targets, self.training_mean)

    def constant(self, task: FittedTask, targets: Tensor, mask: Tensor, rows: int) -> Tensor:
        import torch

        return torch.full((rows,), self.training_mean)


def read_numbers(columns: Sequence[np.ndarray], missing: object) -> tuple[np.ndarray, bool]:
    """Numbers of all columns side by side, (n, k) float64, NaN where there is none.

    Args:
        columns: (n,) or (n, ...) each.
        missing: The value that marks a missing number; None if there is none.

    Returns:
        The numbers, and whether a row holds the mark.

    Raises:
        ValueError: A value is no number.
    """
    # Not -1, which numpy cannot work out where there are no rows; those are reported for the data set.
    parts = [column.reshape(len(column), math.prod(column.shape[1:])) for column in columns]
    parsed = [_parse(part, missing) for part in parts]
    return np.concatenate([part for part, _ in parsed], axis=1), any(marked for _, marked in parsed)


def refuse(values: np.ndarray, wrong: np.ndarray, rule: str) -> None:
    """Refuse the first wrong value.

    Args:
        values: (n, k).
        wrong: Which of them break the rule, same shape.
        rule: The rule.

    Raises:
        ValueError: There is a wrong value.
    """
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(f"{rule}, in row {row} (from 0), got {values[row, column]}")


def check_spread(place: str, present: np.ndarray, problems: list[Problem]) -> bool:
    """Whether numbers (n,) differ from each other; otherwise there is a problem."""
    if len(np.unique(present)) < 2 or not present.std() > 0:
        rule = "must hold at least 2 different values in the training rows"
        problems.append(Problem(f"{place}.target", rule, float(present[0])))
        return False
    return True


def _parse(values: np.ndarray, missing: object) -> tuple[np.ndarray, bool]:
    """Numbers (n, k) as float64, NaN where there is none, and whether one is the mark of a missing label.

    Text is taken where it spells a number, the mark too.
    """
    marked = False
    if values.dtype.kind not in "biufO":
        raise ValueError(f"must hold numbers, got {values.dtype}")
    if values.dtype != object:
        numbers = values.astype(np.float64)
    else:
        gap = "" if missing is None else text_of(missing)
        numbers = np.full(values.shape, np.nan)
        for row, value in enumerate(values[:, 0].tolist()):
            if is_missing(value) or text_of(value) in ("", gap):
                marked |= text_of(value) == gap != ""
                continue
            try:
                numbers[row, 0] = float(value)
            except (TypeError, ValueError) as error:
                hint = f" ({HOW_TO_READ})" if is_foreign_number(str(value)) else ""
                raise ValueError(f"must hold numbers{hint}, in row {row} (from 0), got {value!r}") from error
    mark = number_in(missing) if isinstance(missing, str) else missing
    if isinstance(mark, (int, float)):
        marked |= bool((numbers == mark).any())
        numbers[numbers == mark] = np.nan
    return numbers, marked
