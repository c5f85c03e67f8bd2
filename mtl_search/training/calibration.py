"""Calibration: batch norm's running statistics of the weights that are validated and kept.

The loop calibrates a model before it judges it. Running statistics are means over past batches and lag behind the
weights: with momentum 0.01, a tenth of them is still what they began with after 230 updates.
"""

from collections.abc import Sequence
from functools import cached_property

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mtl_search.data.batching import BatchPlan, DeviceSplit
from mtl_search.data.inputs import Inputs, InputSource
from mtl_search.models.distributed import DistributedContext
from mtl_search.models.multitask import MultiTaskModel
from mtl_search.recipe import Schedule
from mtl_search.training.evaluation import cut_evenly, passes_of
from mtl_search.training.frozen_prefix import FrozenPrefix
from mtl_search.transfer.norms import batch_norms, recalibrate

ROWS = 1024
"""Training rows that the statistics are taken from; all of them where there are fewer."""


class Calibration:
    """Takes the running statistics of a model's batch norms anew, from the same training rows each time.

    The rows pass in batches as large as those of training, so these are the statistics that training itself would come
    to, were its weights to stay what they are. Every rank passes all of the rows, so that two workers come to the
    statistics of one. Training goes on from the new statistics: it does not use them, save in passes that look ahead in
    evaluation mode, for which they are right too.

    Args:
        model: Not wrapped.
        split: Training split on the device.
        schedule: Batch size and temperature, which decides how many of the rows each data set has.
        world: The group that trains together.
        prefix: Keeps what frozen blocks give for the rows; every pass begins at the input if not given.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        split: DeviceSplit,
        schedule: Schedule,
        world: DistributedContext,
        prefix: FrozenPrefix | None = None,
    ) -> None:
        self._model, self._schedule, self._world, self._prefix = model, schedule, world, prefix
        self._inputs = [split.inputs[name] for name in model.datasets]

    def calibrate_learning(self) -> None:
        """Calibrate the norms that learn statistics in training, of a model in training mode.

        Others keep their statistics: those of frozen blocks, and those that a user's block holds still.
        """
        self._apply([norm for norm in batch_norms(self._model) if norm.training])

    def calibrate_all(self) -> None:
        """Calibrate every norm."""
        self._apply(batch_norms(self._model))

    def _apply(self, norms: Sequence[_BatchNorm]) -> None:
        if not norms:
            return
        inputs = [_Picked(part, rows) for part, rows in zip(self._inputs, self._rows, strict=True)]
        # Two rows of every data set in every pass: one has no spread.
        most = max(1, min(len(part) // 2 for part in inputs))
        passes = min(-(-sum(map(len, inputs)) // self._schedule.batch_size), most)
        slices = cut_evenly([slice(0, len(part)) for part in inputs], passes)
        found = passes_of(inputs, slices) if self._prefix is None else self._prefix.calibration(inputs, slices)
        with self._world.autocast():
            recalibrate(self._model, found.batches, norms, start_block=found.start_block)

    @cached_property
    def _rows(self) -> list[Tensor]:
        """Numbers of the rows by data set: those of one large batch."""
        sizes = dict(zip(self._model.datasets, map(len, self._inputs), strict=True))
        plan = BatchPlan(sizes, {}, {}, max(ROWS, len(sizes)), self._schedule.temperature)
        return [rows.to(self._world.device) for rows in next(plan.epoch(0)).rows]


class _Picked:
    """Some rows of a data set, taken when a pass asks for them: images of all of them would be a large copy."""

    def __init__(self, inputs: InputSource, rows: Tensor) -> None:
        self._inputs, self._rows = inputs, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice) -> Inputs:
        return self._inputs.select(self._rows[rows])
